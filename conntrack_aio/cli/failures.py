"""Turn failures into a message on standard error and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ..error_chains import clear_frames
from ..errors import ConntrackError
from ..interrupts import INTERRUPTED, exit_on_interrupt, raise_on_interrupt
from .error_texts import text_of
from .output import (
    Interrupted,
    OutputError,
    ReaderGone,
    discard_output,
    flush_output,
    report,
    standard_streams,
)


class CommandError(Exception):
    """The command cannot do what was asked. The text says why."""


def guarded(action: Callable[[], int | None]) -> int:
    """Run the action of a process, report its failure if any, and return the exit status.

    :param action: a function that returns the exit status, or ``None`` for 0.
    """
    try:
        try:
            raise_on_interrupt()
            with standard_streams():
                return _run_and_flush(action)
        finally:
            exit_on_interrupt()  # as Python exits, it would print a traceback for an interrupt
    except (KeyboardInterrupt, Interrupted):
        # An interrupt may also have come as the action ended, before its handler was changed.
        exit_on_interrupt()
        discard_output()
        return INTERRUPTED


def _run_and_flush(action: Callable[[], int | None]) -> int:
    try:
        flush_output()  # fails at once if standard output is closed
        status = _run_action(action)
        # Write errors must surface here. While Python exits, they would print a traceback.
        flush_output()
        return status
    except ReaderGone:
        discard_output()
        return 0
    except OutputError as error:
        discard_output()
        return report_failure(error)


def _run_action(action: Callable[[], int | None]) -> int:
    try:
        return action() or 0
    except SystemExit as error:  # argparse, for invalid arguments, --help and --version
        return error.code if isinstance(error.code, int) else 1
    except (ConntrackError, CommandError) as error:
        _flush_before_report()
        return report_failure(error)
    except OSError as error:
        _flush_before_report()
        _clear_frames_silently(error)
        return report_failure(_describe(error))


def _clear_frames_silently(error: BaseException) -> None:
    """Clear the frames in the tracebacks of an error, without messages from finalizers.

    If asyncio cannot open an event loop, the finalizer of the half-opened loop fails
    (``BaseEventLoop.__del__`` closes descriptors that it never opened). Python would print that.
    """
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        clear_frames(error)
    finally:
        sys.unraisablehook = hook


def _describe(error: OSError) -> str:
    """Return the text of an error with the file that it concerns, without the errno."""
    if error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def _flush_before_report() -> None:
    """Write the output that precedes a failure. If that fails, discard the output."""
    try:
        flush_output()
    except (OutputError, ReaderGone):
        discard_output()


def report_failure(error: object) -> int:
    """Report a failure on standard error, and return the exit status 1."""
    report(text_of(error))
    return 1
