"""The methods of a connection, in one module for each subject."""
