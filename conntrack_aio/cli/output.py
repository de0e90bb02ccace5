"""Standard output and standard error, as a command has to treat them.

- What is listed goes to standard output, and only that. If it can't be written, the command fails.
  If its reader has had enough, as ``head`` has, the command ends.
- What goes to standard error is by the way: whether it is full or closed, the command goes on.
- An interrupt ends a write that blocks because nobody reads a pipe. asyncio's own handler would
  only cancel the task that writes, which then would never notice.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_STDIN, _STDOUT, _STDERR = 0, 1, 2


class Interrupted(BaseException):
    """An interrupt while something was written. No :exc:`KeyboardInterrupt`, which would tear
    through the event loop, and no :exc:`Exception`, which somebody might catch."""


class ReaderGone(Exception):
    """Whoever read standard output does no more."""


class OutputError(Exception):
    """Standard output can't be written; the text says why."""


class _Writing:
    """Whether something is being written, for the handler of interrupts."""

    def __init__(self) -> None:
        self.active = False
        self.interrupted = False


_writing: Final = _Writing()


@contextmanager
def _interruptible() -> Generator[None]:
    """Raise :exc:`Interrupted` at an interrupt while something is written inside."""
    try:
        _writing.active = True
        if _writing.interrupted:
            raise KeyboardInterrupt
        yield
        _writing.active = False
    except KeyboardInterrupt:
        raise Interrupted from None
    finally:
        _writing.active = False


@contextmanager
def interrupting_writes() -> Generator[None]:
    """Have interrupts end what blocks in a write; all others are handled as before.

    To be entered where an event loop runs, which has its handler installed by then.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    handle: Callable[[int, FrameType | None], object] = before

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        _writing.interrupted = True
        if _writing.active:
            raise KeyboardInterrupt
        handle(number, frame)

    _writing.interrupted = False
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# Standard output


def write_line(line: object, *, flush: bool = False) -> None:
    """Write a line to standard output.

    :raises OutputError: it can't be written.
    :raises ReaderGone: nobody reads it any more.
    :raises Interrupted: Ctrl-C ended the write.
    """
    _print(line, "\n", flush)


def flush_output() -> None:
    """Write what is still in the buffer; raise what :func:`write_line` raises."""
    _print("", "", True)


def _print(line: object, end: str, flush: bool) -> None:
    # Once a flow or an event: as _interruptible() does, without what that costs.
    try:
        _writing.active = True
        if _writing.interrupted:
            raise KeyboardInterrupt
        if sys.stdout is None:  # print() would drop the line
            raise OutputError("standard output: it is closed")
        print(line, end=end, flush=flush)
        _writing.active = False
    except KeyboardInterrupt:
        raise Interrupted from None
    except BrokenPipeError as error:
        raise ReaderGone from error
    except OSError as error:
        raise OutputError(f"standard output: {error.strerror}") from error
    except ValueError as error:  # of a file object that was closed
        raise OutputError("standard output: it is closed") from error
    finally:
        _writing.active = False


def discard_output() -> None:
    """Drop what is in the buffer: Python would write it when it exits, block, or complain."""
    try:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, _STDOUT)
        os.close(devnull)
    except OSError:
        pass


# Standard error


class _Unfailing(io.TextIOBase):
    """Standard error, written at once. What can't be written is dropped.

    Nothing stays in a buffer: Python flushes it when it exits, and changes the exit status if that
    fails.
    """

    encoding = "utf-8"

    def write(self, text: str, /) -> int:
        data = text.encode(errors="backslashreplace")
        with _interruptible():
            try:
                while data:
                    data = data[os.write(_STDERR, data) :]
            except OSError:
                pass
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return _STDERR

    def isatty(self) -> bool:
        return os.isatty(_STDERR)


@contextmanager
def standard_streams() -> Generator[None]:
    """Have standard error never fail, and no other file take the place of a closed stream.

    Where Python found a stream closed it is ``None``, and its number would be the next file's.
    """
    for number in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stderr
    if before is None or before is sys.__stderr__:
        sys.stderr = _Unfailing()
    try:
        yield
    finally:
        sys.stderr = before


def say(sentence: object) -> None:
    """Say something beside what is listed, on standard error. It never fails."""
    try:
        # In one piece: print() writes the end of the line apart where Python buffers nothing.
        sys.stderr.write(f"conntrack-aio: {sentence}\n")
    except OSError:
        pass
