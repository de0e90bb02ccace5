"""The live table: a mirror of the kernel's, kept true by events and by comparing."""
