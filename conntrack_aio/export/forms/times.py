"""Write times as text."""

from __future__ import annotations

import time
from functools import lru_cache

_NANOSECONDS = 1_000_000_000


def utc_text(nanoseconds: int) -> str:
    """Return a time in UTC as RFC 3339 writes it, with nanoseconds.

    :param nanoseconds: the time since 1970.
    """
    seconds, rest = divmod(nanoseconds, _NANOSECONDS)
    return f"{_second_text(seconds)}.{rest:09d}Z"


@lru_cache(4096)
def _second_text(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
