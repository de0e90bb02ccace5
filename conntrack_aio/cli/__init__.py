"""Implement the command ``conntrack-aio``."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    :param arguments: the command line without the program's name, instead of ``sys.argv[1:]``.
    :returns: 0 for success, 1 for a failure, 2 for arguments that are not valid, 130 for Ctrl-C.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    from .command import run

    return run(arguments)
