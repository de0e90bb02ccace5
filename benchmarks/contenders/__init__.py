"""The programs that are timed: the floor, this library, and other libraries and commands."""
