"""Define the kernel's constants, in one module per header, with the kernel's names and order.

- A class has the prefix that its constants share, and a member the rest of the name:
  ``CTA_TUPLE_ORIG`` is ``CTA.TUPLE_ORIG``.
- A module's docstring begins with the names of its headers, and a class's docstring with the name
  of its enum or macros. ``tests/uapi`` reads them, and compares the numbers with the headers of the
  machine.
- These modules contain no code.
"""
