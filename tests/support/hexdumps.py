"""Read the bytes back from the hexadecimal dumps in a trace."""

from __future__ import annotations

import re
from collections.abc import Iterable

HEXDUMP_LINE = re.compile(r"  [0-9a-f]{4,}  (.{48})  \|.{1,16}\|")


def parse_hexdump(lines: Iterable[str]) -> bytes:
    """Return the bytes in the lines of a hexadecimal dump. Other lines are ignored."""
    found = (HEXDUMP_LINE.fullmatch(line) for line in lines)
    return b"".join(bytes.fromhex(match[1]) for match in found if match)


def parse_datagram(texts: Iterable[str]) -> bytes:
    """Return the datagram of these messages, with the padding between them."""
    data = b""
    for text in texts:
        data += bytes(-len(data) % 4) + parse_hexdump(text.split("\n"))
    return data
