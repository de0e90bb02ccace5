"""Generic netlink: messages, attributes, requests and sockets. Knows nothing of conntrack."""
