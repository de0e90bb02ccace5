"""asm-generic/socket.h and linux/sockios.h: constants that :mod:`socket` lacks.

The values are those of the generic header. x86, Arm, RISC-V, PowerPC's newer ABI and most other
architectures use it. Alpha, PA-RISC and SPARC have other values; the library does not support them.
"""

SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
SO_MEMINFO = 55
SO_NETNS_COOKIE = 71  # since 5.14
SIOCGSKNS = 0x894C  # since 4.9

SK_MEMINFO_RMEM_ALLOC = 0
SK_MEMINFO_RCVBUF = 1
SK_MEMINFO_DROPS = 8
