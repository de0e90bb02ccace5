"""linux/sched.h: the kinds of namespaces, for ``unshare()`` and ``setns()``."""

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
