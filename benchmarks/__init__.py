"""Measure the library against the floor and against other libraries.

- The floor is a loop that receives the same bytes as the library and reads none of them. README.md
  in this folder explains it and all figures.
- ``timing`` and ``report`` do not depend on conntrack.
- ``tables`` fills the kernel's table.
- ``contenders`` contains the programs that are timed.
- ``figures`` contains the measurements. Each of them runs in its own process and its own network
  namespace, which ``isolation`` creates.
"""
