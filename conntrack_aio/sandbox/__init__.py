"""A network namespace in which the kernel tracks connections. It needs no other program.

The command's demonstration uses it, without root, and so do tests.
"""
