"""End the command quietly on Ctrl-C while its modules load.

``python -m conntrack_aio`` and the script ``conntrack-aio`` import the package before any code of
the command runs. Without this module an interrupt during these imports would print a traceback.

- The package imports this module first.
- On import, this module installs a signal handler for SIGINT, but only in a process that was
  started as the command. A program that imports the library keeps its signal handlers.
- This module imports as little as it can, because an interrupt during its own import is not
  handled.
"""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130
"""The exit status of a program that an interrupt ended: 128 + SIGINT, as in shells."""

_SCRIPTS = ("conntrack-aio", "conntrack")
_MODULES = ("conntrack_aio", "conntrack_aio.cli.demo")


def _is_command() -> bool:
    """Return whether this process was started as the command."""
    program = sys.argv[0] if sys.argv else ""
    if program != "-m":
        return os.path.basename(program) in _SCRIPTS
    # Python sets argv[0] to "-m" until it has found the module. In orig_argv the module's name
    # precedes the arguments, perhaps joined to options: -Imconntrack_aio.
    index = len(sys.orig_argv) - len(sys.argv)
    name = sys.orig_argv[index] if index > 0 else ""
    return name in _MODULES or (name.startswith("-") and name.partition("m")[2] in _MODULES)


def _exit(number: int, frame: object) -> None:
    os._exit(INTERRUPTED)


def exit_on_interrupt() -> None:
    """Make an interrupt exit this process at once and quietly, if it is the command.

    A process that ignores interrupts, such as a background job of a shell, continues to ignore
    them.
    """
    if IS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit)


def raise_on_interrupt() -> None:
    """Make an interrupt raise :exc:`KeyboardInterrupt` again, after :func:`exit_on_interrupt`."""
    if signal.getsignal(signal.SIGINT) is _exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


IS_COMMAND = _is_command()
"""Whether this process was started as the command."""

exit_on_interrupt()
