"""Write to standard output and standard error.

- Standard output gets the data that the user requested, and nothing else. If the data cannot be
  written, the command fails. If the reader closes the pipe, as ``head`` does, the command ends
  successfully.
- Standard error gets reports. If they cannot be written, the command continues without them.
- An interrupt ends a write that blocks on a full pipe. The signal handler of asyncio would only
  cancel the task that writes, which does not notice while it blocks.
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
    """An interrupt ended a write.

    This is not a :exc:`KeyboardInterrupt`, which would unwind the event loop instead of the task,
    and not an :exc:`Exception`, which other code might catch.
    """


class ReaderGone(Exception):
    """The reader of standard output has closed its end of the pipe."""


class OutputError(Exception):
    """Standard output cannot be written. The text says why."""


class _WriteState:
    """The state that writes share with the signal handler."""

    def __init__(self) -> None:
        self.active = False
        """Whether a write is in progress."""
        self.interrupted = False
        """Whether an interrupt has arrived."""


_state: Final = _WriteState()


@contextmanager
def interruptible() -> Generator[None]:
    """Turn an interrupt during the body, which blocks, into :exc:`Interrupted`.

    The body may write to standard error, which enters this context once more.
    """
    before = _state.active
    try:
        _state.active = True
        if _state.interrupted:
            raise KeyboardInterrupt
        yield
        _state.active = before
    except KeyboardInterrupt:
        raise Interrupted from None
    finally:
        _state.active = before


@contextmanager
def interrupting_writes() -> Generator[None]:
    """Make interrupts end writes. Outside of writes, the previous handler handles them.

    Enter this context inside the event loop, after the loop has installed its own handler.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    handle: Callable[[int, FrameType | None], object] = before

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        _state.interrupted = True
        if _state.active:
            raise KeyboardInterrupt
        handle(number, frame)

    _state.interrupted = False
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def resume_writes() -> None:
    """Let writes succeed again after an interrupt, for the last report of a command.

    Another interrupt ends them.
    """
    _state.interrupted = False


# Standard output


def write_line(line: object, *, flush: bool = False) -> None:
    """Write a line to standard output.

    :param line: the line, without its newline. Any object is converted to text.
    :param flush: whether to write the buffer at once.
    :raises OutputError: when standard output cannot be written.
    :raises ReaderGone: when the reader has closed its end of the pipe.
    :raises Interrupted: when an interrupt ended the write.
    """
    _print(line, "\n", flush)


def write_lines(lines: str, *, flush: bool = False) -> None:
    """Write lines to standard output. Raises what :func:`write_line` raises.

    :param lines: the lines, each with a newline at its end.
    :param flush: whether to write the buffer at once.
    """
    _print(lines, "", flush)


def flush_output() -> None:
    """Write the buffer of standard output. Raises what :func:`write_line` raises."""
    _print("", "", True)


def write_bytes(data: bytes) -> None:
    """Write bytes to standard output at once. Raises what :func:`write_line` raises."""
    flush_output()
    try:
        with interruptible():
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise ReaderGone from error
    except OSError as error:
        raise OutputError(f"standard output: {error.strerror}") from error


def _print(line: object, end: str, flush: bool) -> None:
    # This may run for each event. It repeats interruptible() to save the context manager.
    try:
        _state.active = True
        if _state.interrupted:
            raise KeyboardInterrupt
        if sys.stdout is None:  # print() would discard the line
            raise OutputError("standard output is closed")
        try:
            print(line, end=end, flush=flush)
        except UnicodeEncodeError as error:  # nothing of the line was written
            escaped = str(line).encode(error.encoding, "backslashreplace")
            print(escaped.decode(error.encoding), end=end, flush=flush)
        _state.active = False
    except KeyboardInterrupt:
        raise Interrupted from None
    except BrokenPipeError as error:
        raise ReaderGone from error
    except OSError as error:
        raise OutputError(f"standard output: {error.strerror}") from error
    except ValueError as error:  # the file object was closed
        raise OutputError("standard output is closed") from error
    finally:
        _state.active = False


def discard_output() -> None:
    """Discard the buffer of standard output.

    Otherwise Python would try to write it at exit, and block or print an error.
    """
    try:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, _STDOUT)
        os.close(devnull)
    except OSError:
        pass


# Standard error


class _BestEffortStderr(io.TextIOBase):
    """Standard error without a buffer, which discards text that cannot be written.

    Python flushes the buffer of standard error at exit, and changes the exit status if that fails.
    """

    encoding = "utf-8"

    def write(self, text: str, /) -> int:
        self.write_bytes(text.encode(errors="backslashreplace"))
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        with interruptible():
            try:
                while data:
                    data = data[os.write(_STDERR, data) :]
            except OSError:
                pass

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return _STDERR

    def isatty(self) -> bool:
        return os.isatty(_STDERR)


@contextmanager
def standard_streams() -> Generator[None]:
    """Make writes to standard error never fail, and reserve the descriptors of closed streams.

    A stream that was closed when Python started is ``None`` in :mod:`sys`. Its descriptor would
    otherwise be given to the next file or socket, which would then get text meant for the stream.
    """
    for number in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stderr
    if before is None or before is sys.__stderr__:
        sys.stderr = _BestEffortStderr()
    try:
        yield
    finally:
        sys.stderr = before


def report(message: object) -> None:
    """Write a message to standard error. Never fails."""
    try:
        # One write, so that lines of two processes do not mix: print() writes the newline apart.
        sys.stderr.write(f"conntrack-aio: {message}\n")
    except OSError:
        pass


def report_bytes(data: bytes) -> None:
    """Write bytes to standard error as they are. Never fails."""
    if isinstance(sys.stderr, _BestEffortStderr):
        sys.stderr.write_bytes(data)
        return
    try:
        sys.stderr.flush()
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()
    except OSError:
        pass


def report_after_interrupt(message: object) -> None:
    """Write a message to standard error, also after an interrupt. A further interrupt ends it."""
    _state.interrupted = False
    report(message)
