"""The kernel's own numbers, one module per header, in the kernel's order and under its names.

A class bears the prefix that its constants share, a member what follows it: ``CTA_TUPLE_ORIG``
is ``CTA.TUPLE_ORIG``. Nothing here does anything; ``tests/uapi`` compares it with the headers
of the machine.
"""
