"""What to select flows by."""
