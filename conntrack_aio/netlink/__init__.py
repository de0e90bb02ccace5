"""Generic netlink: messages, attributes, conversations and sockets. Knows nothing of conntrack."""
