"""Matches: conditions that select flows, and how the kernel and the library apply them."""
