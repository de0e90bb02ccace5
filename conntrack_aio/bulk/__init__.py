"""Bulk operations: where their items come from, and the outcome of each item."""
