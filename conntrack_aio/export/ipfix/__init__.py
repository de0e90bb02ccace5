"""IPFIX (RFC 7011): flow records, biflows (RFC 5103), NAT events (RFC 8158) and gaps."""
