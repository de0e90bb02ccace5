"""linux/sched.h: the namespaces that ``unshare()`` and ``setns()`` name."""

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
