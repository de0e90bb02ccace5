"""Encode requests. Each is encoded in one place, so that none does more than it says."""
