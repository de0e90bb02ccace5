"""What is timed: the floor, this library, and others where they are installed."""
