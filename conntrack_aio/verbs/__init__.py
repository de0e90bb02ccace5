"""What a connection can do, a module for each kind of thing it does it to."""
