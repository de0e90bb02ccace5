"""A network of one's own, in which the kernel tracks connections: needs no other program.

For the command's demonstration, which needs no root either, and for tests.
"""
