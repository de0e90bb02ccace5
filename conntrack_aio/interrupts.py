"""Ctrl-C while the modules of the command load.

``python -m conntrack_aio`` and the script ``conntrack-aio`` import the package before any code of
the command runs, and an interrupt would end that with a traceback. So this module, imported first,
has an interrupt end the process quietly, but only if the process is the command. A program that
imports the library keeps its signal handlers.

It imports as little as it can, for the same reason.
"""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130
"""The exit status of a program that an interrupt ended: 128 + SIGINT, as shells have it."""

_SCRIPT = "conntrack-aio"
_MODULES = ("conntrack_aio", "conntrack_aio.cli.demo")


def _is_command() -> bool:
    """Whether this process was started as the command."""
    program = sys.argv[0] if sys.argv else ""
    if program != "-m":
        return os.path.basename(program) == _SCRIPT
    # Python has not found the module yet. Its name stands before the arguments, perhaps behind
    # options in the same word: -Imconntrack_aio.
    place = len(sys.orig_argv) - len(sys.argv)
    name = sys.orig_argv[place] if place > 0 else ""
    return name in _MODULES or (name.startswith("-") and name.partition("m")[2] in _MODULES)


def _end(number: int, frame: object) -> None:
    os._exit(INTERRUPTED)


def end_at_once() -> None:
    """Have an interrupt end this process at once and quietly, if it is the command.

    One that ignores interrupts, as the background job of a shell does, goes on to.
    """
    if IS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_again() -> None:
    """Have an interrupt raise :exc:`KeyboardInterrupt` again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


IS_COMMAND = _is_command()
end_at_once()
