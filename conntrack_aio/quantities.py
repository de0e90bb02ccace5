"""Read durations and sizes that people write, such as ``1h30m`` and ``8M``."""

from __future__ import annotations

import re
from typing import Final

_DURATION: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)
_SECONDS: Final = (86400, 3600, 60, 1)
_SIZE: Final = re.compile(r"(\d+)([KMGT]?)", re.ASCII)
_BYTES: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LONGEST: Final = 40
"""The longest text to read, in characters."""


class NotANumber(ValueError):
    """A text is not the number, the duration or the size that it should be."""


def parse_duration(text: str) -> int:
    """Return the seconds of a duration: a number of seconds, or numbers with d, h, m and s.

    The units follow one another from the largest to the smallest: ``600``, ``90s``, ``1h30m``.

    :raises NotANumber: when the text is not a duration.
    """
    if len(text) <= _LONGEST:
        if text.isascii() and text.isdigit():
            return int(text)
        if text and (found := _DURATION.fullmatch(text)):
            return sum(
                int(number) * unit
                for number, unit in zip(found.groups(), _SECONDS, strict=True)
                if number
            )
    raise NotANumber(f"{text[:_LONGEST]!r} is not a duration")


def parse_size(text: str) -> int:
    """Return the bytes of a size: a number, perhaps with K, M, G or T, which are powers of 1024.

    :raises NotANumber: when the text is not a size.
    """
    found = _SIZE.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        raise NotANumber(f"{text[:_LONGEST]!r} is not a size")
    return int(found[1]) * _BYTES[found[2]]
