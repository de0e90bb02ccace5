"""Implement ``conntrack-aio``, and the command lines of conntrack(8) and nfct(8)."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import Final

from ..interrupts import IS_COMMAND

_OWN_OPTIONS = ("--version", "--help", "-h")
"""The options with which a command line of ``conntrack-aio`` may begin."""

_GC_THRESHOLD: Final = 50_000
"""How many more objects than before there are when the garbage collector runs. With Python's own
number it runs dozens of times while modules are imported, which takes a twentieth of the time of a
short command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    The command line is that of conntrack(8) if the program was started as ``conntrack``, or if its
    first argument begins with ``-`` and is not one of ``--version``, ``--help`` and ``-h``. It is
    that of nfct(8) if the program was started as ``nfct``, or after the word ``nfct``.

    :param arguments: the command line without the program's name, instead of ``sys.argv[1:]``.
    :returns: 0 for success, 1 for a failure, 2 for arguments that are not valid, 130 for Ctrl-C.
        Does not return in a process that was started as the command: it ends the process.
    """
    if arguments is not None:
        return _run("", arguments)
    gc.set_threshold(_GC_THRESHOLD)
    status = _run(os.path.basename(sys.argv[0]), sys.argv[1:])
    if IS_COMMAND and not _is_python_asked_for_more():
        os._exit(status)
    return status


def _run(program: str, words: Sequence[str]) -> int:
    first = words[0] if words else ""
    if program == "conntrack" or (
        program != "nfct" and first.startswith("-") and first not in _OWN_OPTIONS
    ):
        from .conntrack8.command import run as run_conntrack8

        return run_conntrack8(words)
    if program == "nfct" or first == "nfct":
        from .nfct.command import run as run_nfct

        return run_nfct(words if program == "nfct" else words[1:])
    from .command import run

    return run(words)


def _is_python_asked_for_more() -> bool:
    """Return whether Python was started with options for what it does as it exits.

    These are warnings, as for open files, and a prompt (``-i``). Otherwise the process ends when
    the command has written its output and closed its files: deleting all objects one by one would
    take as long as a request.
    """
    return bool(sys.warnoptions or sys.flags.dev_mode or sys.flags.inspect)
