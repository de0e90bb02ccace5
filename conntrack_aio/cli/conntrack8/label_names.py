"""The names of labels as conntrack(8) reads them."""

from __future__ import annotations

from .messages import warn
from .values import parse_leading_integer

PATH = "/etc/xtables/connlabel.conf"
"""The file with the names. conntrack(8) has no option for another one."""

_BITS = 128

ALL_LABELS = (1 << _BITS) - 1
"""The bitmap of all labels."""


def read_label_names() -> dict[str, int] | None:
    """Return the bits of labels by name. Lines that are not valid are skipped.

    If the file cannot be read, report why on standard error, and return ``None``.
    """
    try:
        with open(PATH, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError as error:
        warn(f"nfct_labelmap_new: {error.strerror}")
        return None
    bits: dict[str, int] = {}
    for line in lines:
        bit, end = parse_leading_integer(line, 10)
        name = line[end:].strip()
        if end and line[end : end + 1].isspace() and name and 0 <= bit < _BITS:
            bits.setdefault(name, bit)
    return bits
