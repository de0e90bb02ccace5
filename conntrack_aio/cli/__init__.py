"""Implement the command ``conntrack-aio``, and the command line of conntrack(8)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

_OWN_OPTIONS = ("--version", "--help", "-h")
"""The options that are not those of conntrack(8) unless the program has its name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    The command line is that of conntrack(8) if the program was started as ``conntrack``, or if its
    first argument begins with ``-`` and is not one of :data:`_OWN_OPTIONS`.

    :param arguments: the command line without the program's name, instead of ``sys.argv[1:]``.
    :returns: 0 for success, 1 for a failure, 2 for arguments that are not valid, 130 for Ctrl-C.
    """
    given = sys.argv[1:] if arguments is None else arguments
    named = arguments is None and os.path.basename(sys.argv[0]) == "conntrack"
    if named or (given and given[0].startswith("-") and given[0] not in _OWN_OPTIONS):
        from .conntrack8.command import run as run_conntrack8

        return run_conntrack8(given)
    from .command import run

    return run(arguments)
