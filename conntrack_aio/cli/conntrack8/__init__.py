"""The language of conntrack(8): its options, actions and output."""
