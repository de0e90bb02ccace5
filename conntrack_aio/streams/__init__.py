"""The async iterators that users read: dumps and event streams."""
