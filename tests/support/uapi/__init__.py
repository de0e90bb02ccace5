"""Define the kernel's constants that only tests use, in the form of ``conntrack_aio.uapi``."""
