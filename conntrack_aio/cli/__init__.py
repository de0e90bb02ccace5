"""Implement the command ``conntrack-aio``, and the commands of other names."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    :param arguments: the command line without the program's name, instead of ``sys.argv[1:]``.
    :returns: 0 for success, 1 for a failure, 2 for arguments that are not valid, 130 for Ctrl-C.
    """
    if arguments is None and os.path.basename(sys.argv[0]) == "nfct":
        return _run_nfct(sys.argv[1:])
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["nfct"]:
        return _run_nfct(words[1:])
    from .command import run

    return run(arguments)


def _run_nfct(arguments: Sequence[str]) -> int:
    from .nfct.command import run

    return run(arguments)
