"""Show at a terminal how far a command is, if it takes longer than a second.

The progress is a line on standard error, which is replaced until it is erased at the end. So
nothing else may be printed meanwhile: it is for the time in which a command collects what it
prints.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..connection import Connection
    from ..filters.match import Match

_DELAY: Final = 1.0
"""Seconds before progress is shown."""

_INTERVAL: Final = 0.2
"""Seconds between two updates."""

_ERASE: Final = "\r\x1b[K"


def shows_progress(*, quiet: bool) -> bool:
    """Return whether progress is shown: if standard error is a terminal that can erase a line.

    :param quiet: whether the user asked for no progress.
    """
    return not quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def shown_progress(
    what: str, done: Callable[[], int], total: int | None, *, quiet: bool
) -> Generator[None]:
    """Show progress during the body.

    A thread shows it: the body may keep the event loop busy.

    :param what: what is counted, such as ``entries``.
    :param done: returns how many are done; it is called on the thread.
    :param total: how many there are, as far as that is known.
    :param quiet: whether the user asked for no progress.
    """
    if not shows_progress(quiet=quiet):
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(
        target=_show, args=(what, done, total, ended), name="progress", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


async def dump_progress(
    conn: Connection, match: Match | None, *, quiet: bool, of_table: bool = True
) -> AbstractContextManager[None]:
    """Return a context that shows how many entries a connection has read.

    :param conn: the connection. It should do nothing else meanwhile.
    :param match: the match of the dump. With one, the number of entries to read is unknown.
    :param quiet: whether the user asked for no progress.
    :param of_table: whether the table is dumped, of whose entries the kernel has a count.
    """
    total: int | None = None
    if of_table and match is None and shows_progress(quiet=quiet):
        total = await conn.count()
    start = conn.client_statistics().entries_decoded
    return shown_progress(
        "entries", lambda: conn.client_statistics().entries_decoded - start, total, quiet=quiet
    )


def progress_line(what: str, done: int, total: int | None, seconds: float) -> str:
    """Return the text of a progress: ``120000 of 1000000 entries, 95000/s``.

    :param what: what is counted.
    :param done: how many are done.
    :param total: how many there are, if that is known. There may be more by now.
    :param seconds: how long that took.
    """
    number = str(done) if total is None else f"{done} of {max(done, total)}"
    return f"{number} {what}, {done / seconds:.0f}/s"


def _show(what: str, done: Callable[[], int], total: int | None, ended: threading.Event) -> None:
    start = time.monotonic()
    if ended.wait(_DELAY):
        return
    while True:
        line = progress_line(what, done(), total, time.monotonic() - start)
        _write(f"{_ERASE}{line}")
        if ended.wait(_INTERVAL):
            _write(_ERASE)
            return


def _write(text: str) -> None:
    """Write text to standard error. Not through :data:`sys.stderr`, whose writes an interrupt may
    end: that is for the main thread."""
    try:
        os.write(sys.stderr.fileno(), text.encode())
    except OSError:
        pass
