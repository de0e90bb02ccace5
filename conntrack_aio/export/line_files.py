"""Write records as lines of a file, which rotates by size and time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import anyio.to_thread

from .forms import plain
from .records import Record
from .sinks import SinkError

_LINE_END: Final = b"\n"
_TAIL: Final = 1 << 16
"""How many bytes at the end of a file are searched at once for the end of its last line."""


class LineFile:
    """A sink that appends lines to a file. The file never has half a line.

    When the file has reached a size or an age, it is renamed, and a new one begins. The old one has
    the time of its rotation in its name: ``flows.jsonl.20261201T120000Z``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        line: Callable[[Record], str] = plain.line,
        *,
        rotate_size: int | None = None,
        rotate_interval: float | None = None,
        keep: int | None = None,
    ) -> None:
        """Set up the sink. The file is opened by :meth:`open`.

        :param path: the file. What it has already is kept.
        :param line: writes a record as a line, without its newline.
        :param rotate_size: rotate before the file becomes larger than this many bytes.
        :param rotate_interval: rotate when the file is this many seconds old.
        :param keep: how many rotated files to keep; ``None`` for all.
        :raises ValueError: when a number is not positive.
        """
        for name, number in (("rotate_size", rotate_size), ("rotate_interval", rotate_interval)):
            if number is not None and not number > 0:
                raise ValueError(f"{name} must be positive; got {number!r}")
        if keep is not None and keep < 0:
            raise ValueError(f"keep must not be negative; got {keep}")
        self._path = os.fspath(path)
        self._line = line
        self._rotate_size = rotate_size
        self._rotate_interval = rotate_interval
        self._keep = keep
        self._descriptor: int | None = None
        self._size = 0
        self._opened = 0.0

    @property
    def name(self) -> str:
        """The URL of the destination."""
        return f"file:{self._path}"

    async def open(self) -> None:
        """Open the file, and cut off half a line that a crash has left at its end.

        :raises SinkError: when the file cannot be opened.
        """
        await anyio.to_thread.run_sync(self._open)

    async def write(self, records: Sequence[Record]) -> int:
        """Append records, and return how many have been written.

        :raises SinkError: when not one could be written.
        """
        return await anyio.to_thread.run_sync(self._write, records)

    async def flush(self) -> None:
        """Do nothing: each write reaches the kernel at once."""

    async def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)

    async def reopen(self) -> None:
        """Close the file, and open the one that has its name now, such as after a rename.

        :raises SinkError: when it cannot be opened.
        """
        await self.close()
        await self.open()

    # -- on a thread --------------------------------------------------------------------------

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(self._path, flags, 0o640)
            try:
                self._size = _cut_half_line(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as error:
            raise SinkError(f"{self._path} cannot be opened: {error.strerror}") from error
        self._descriptor = descriptor
        self._opened = time.monotonic()

    def _write(self, records: Sequence[Record]) -> int:
        lines = [f"{self._line(record)}\n".encode(errors="backslashreplace") for record in records]
        done = 0
        while done < len(lines):
            if self._is_due(len(lines[done])):
                self._rotate()
            count = self._fitting(lines, done)
            written = self._append(lines[done : done + count])
            done += written
            if written < count:
                break
        return done

    def _fitting(self, lines: Sequence[bytes], start: int) -> int:
        """Return how many lines from ``start`` on fit into the file before it is rotated."""
        if self._rotate_size is None:
            return len(lines) - start
        room = self._rotate_size - self._size
        count = 0
        while start + count < len(lines) and (not count or len(lines[start + count]) <= room):
            room -= len(lines[start + count])
            count += 1
        return count

    def _append(self, lines: Sequence[bytes]) -> int:
        """Append lines, and return how many the file has now. It has no half of another."""
        assert self._descriptor is not None
        data = memoryview(b"".join(lines))
        written = 0
        failure: OSError | None = None
        while written < len(data) and failure is None:
            try:
                written += os.write(self._descriptor, data[written:])
            except OSError as error:
                failure = error
        count, size = len(lines), len(data)
        while size > written:
            count -= 1
            size -= len(lines[count])
        if failure is not None:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size + size)
        self._size += size
        if failure is not None and not count:
            raise SinkError(f"{self._path} cannot be written: {failure.strerror}") from failure
        return count

    # -- rotation -----------------------------------------------------------------------------

    def _is_due(self, following: int) -> bool:
        """Return whether the file is to be rotated before a line of a length."""
        if not self._size:
            return False
        if self._rotate_size is not None and self._size + following > self._rotate_size:
            return True
        age = time.monotonic() - self._opened
        return self._rotate_interval is not None and age >= self._rotate_interval

    def _rotate(self) -> None:
        try:
            os.rename(self._path, self._free_name())
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
            for path in self._rotated()[: -self._keep or None] if self._keep is not None else ():
                os.unlink(path)
        except OSError as error:
            raise SinkError(f"{self._path} cannot be rotated: {error.strerror}") from error
        self._open()

    def _free_name(self) -> str:
        """Return a name that comes after those of all rotated files."""
        stamp = f"{self._path}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        last = next(reversed(self._rotated()), "")
        if last < stamp:
            return stamp
        # Several in one second, or the clock was set back.
        name, _, number = last.removeprefix(f"{self._path}.").partition(".")
        return f"{self._path}.{name}.{int(number or 0) + 1:06d}"

    def _rotated(self) -> list[str]:
        """Return the rotated files, oldest first: their names have their times."""
        directory, base = os.path.split(self._path)
        found = [
            name
            for name in os.listdir(directory or ".")
            if name.startswith(f"{base}.") and _is_stamp(name.removeprefix(f"{base}."))
        ]
        return [os.path.join(directory, name) for name in sorted(found)]


def _is_stamp(text: str) -> bool:
    stamp, _, number = text.partition(".")
    digits = stamp[:8] + stamp[9:15] + number
    return len(stamp) == 16 and stamp[8] == "T" and stamp[15] == "Z" and digits.isdigit()


def _cut_half_line(descriptor: int) -> int:
    """Cut off what follows the last line end of a file, and return the size of the file."""
    size = end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - _TAIL)
        found = os.pread(descriptor, end - start, start).rfind(_LINE_END)
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)
    return end
