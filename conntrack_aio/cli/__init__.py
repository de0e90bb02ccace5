"""Implement the command ``conntrack-aio``, and what it is under the name ``nfct``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Under the name ``nfct``, and after the word ``nfct``, the arguments are those of nfct(8).

    :param arguments: the command line without the program's name, instead of ``sys.argv[1:]``.
    :returns: 0 for success, 1 for a failure, 2 for arguments that are not valid, 130 for Ctrl-C.
    """
    program = ""
    if arguments is None:
        program = os.path.basename(sys.argv[0])
        arguments = sys.argv[1:]
    if program != "nfct" and arguments[:1] == ["nfct"]:
        program, arguments = "nfct", arguments[1:]
    if program == "nfct":
        from .nfct.command import run as run_nfct

        return run_nfct(arguments)
    from .command import run

    return run(arguments)
