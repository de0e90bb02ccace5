"""Find out what the terminal can show, and write numbers for people."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Final

_PREFIXES: Final = ("k", "M", "G", "T", "P", "E")


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def shows_colors() -> bool:
    """Return whether output is colored: at a terminal, unless the environment says no.

    See https://no-color.org for NO_COLOR.
    """
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def short_number(number: int) -> str:
    """Return a number with at most four characters, such as ``999``, ``1.2k`` and ``34M``.

    The prefixes are powers of 1000, as in the counters of iptables. It is rounded down.
    """
    if number < 1000:
        return str(number)
    for prefix in _PREFIXES:
        if number < 10_000:
            return f"{number // 1000}.{number % 1000 // 100}{prefix}"
        number //= 1000
        if number < 1000:
            return f"{number}{prefix}"
    return f"{number}{_PREFIXES[-1]}"


@cache
def service_name(port: int, protocol: str) -> str | None:
    """Return the name of a well-known port, below 1024, as in ``/etc/services``.

    :param port: the port.
    :param protocol: the name of the protocol, such as ``tcp``.
    :returns: ``None`` if it has none.
    """
    if port >= 1024:
        return None
    from socket import getservbyport

    try:
        return getservbyport(port, protocol)
    except OSError:
        return None
