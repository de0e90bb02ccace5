"""The live table: a mirror of the kernel's table, updated by events and by reconciliations."""
