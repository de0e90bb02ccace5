"""From a failure to a sentence on standard error, and an exit status."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable

from ..errors import ConntrackError
from ..interrupts import INTERRUPTED, end_at_once, raise_again
from .output import (
    Interrupted,
    OutputError,
    ReaderGone,
    discard_output,
    flush_output,
    say,
    standard_streams,
)


def guarded(action: Callable[[], int | None]) -> int:
    """Run the command, or a part of it that is a process of its own; return the exit status."""
    try:
        raise_again()
        with standard_streams():
            # What the library logs is said here in the command's own words.
            logging.getLogger("conntrack_aio").addHandler(logging.NullHandler())
            return _status(action)
    except (KeyboardInterrupt, Interrupted):
        discard_output()
        return INTERRUPTED
    finally:
        end_at_once()  # from here on Python ends, and would complain of an interrupt


def _status(action: Callable[[], int | None]) -> int:
    try:
        flush_output()  # closed, it is no place to list anything
        status = _acted(action)
        # What can't be written is to fail here, not while Python exits.
        flush_output()
        return status
    except ReaderGone:
        discard_output()
        return 0
    except OutputError as error:
        discard_output()
        return complain(error)


def _acted(action: Callable[[], int | None]) -> int:
    try:
        return action() or 0
    except SystemExit as error:  # of argparse, for bad arguments, --help and --version
        return error.code if isinstance(error.code, int) else 1
    except ConntrackError as error:
        _end_the_list()
        return complain(error)
    except OSError as error:
        _end_the_list()
        _free(error)
        return complain(_words(error))


def _free(error: BaseException) -> None:
    """Free what a failure holds: an event loop that could not be opened complains of itself.

    asyncio's closes what it never had (``BaseEventLoop.__del__``), and Python prints that.
    """
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        part: BaseException | None = error
        while part is not None:
            traceback.clear_frames(part.__traceback__)
            part = part.__context__
    finally:
        sys.unraisablehook = hook


def _words(error: OSError) -> str:
    """What went wrong, with what: without a number."""
    if error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def _end_the_list() -> None:
    """Write what was listed before a failure, if that can be written."""
    try:
        flush_output()
    except (OutputError, ReaderGone):
        discard_output()


def complain(error: object) -> int:
    """Say what went wrong; return the exit status."""
    say(error)
    return 1
