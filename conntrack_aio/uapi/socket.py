"""asm-generic/socket.h and linux/sockios.h: what Python's :mod:`socket` does not name.

The values are the generic header's, which x86, Arm, RISC-V, PowerPC's newer ABI and most others
share. Alpha, PA-RISC and SPARC number theirs otherwise; this library was not made for them.
"""

SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
SO_MEMINFO = 55
SO_NETNS_COOKIE = 71  # since 5.14
SIOCGSKNS = 0x894C  # since 4.9

SK_MEMINFO_RMEM_ALLOC = 0
SK_MEMINFO_RCVBUF = 1
SK_MEMINFO_DROPS = 8
