"""Write files that take the place of others when they are whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import BinaryIO

from ..errors import ConntrackError


@contextmanager
def _naming(path: str) -> Generator[None]:
    """Make errors of writing a file name it. Python knows the name only when it opens a file."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, ConntrackError):  # whose cause is not the file
            error.filename = path
        raise


def _become(path: Path, replaced: os.stat_result) -> None:
    """Give a file the owner and the permissions of the one that it replaces.

    The command usually runs as root. A file of another user must not become root's.
    """
    with suppress(PermissionError):
        os.chown(path, replaced.st_uid, replaced.st_gid)
    os.chmod(path, stat.S_IMODE(replaced.st_mode))


@contextmanager
def written_whole(path: str) -> Generator[BinaryIO]:
    """Open a file to write, which has the given name at the end of the ``with`` block.

    If the block raises, a file of that name stays as it was: a part of a file may look like a whole
    one. What is not a regular file, such as a pipe, is written at once, and so is a file in a
    directory in which no other can be created.

    :raises OSError: when the file cannot be opened or written; it names ``path``.
    """
    target = os.path.realpath(path)
    with suppress(OSError):
        if not stat.S_ISREG(os.stat(target).st_mode):
            target = ""
    try:
        folder = Path(mkdtemp(prefix=".", dir=os.path.dirname(target))) if target else None
    except OSError:
        folder = None
    if folder is None:
        with _naming(path), open(path, "wb") as file:
            yield file
        return
    unfinished = folder / "unfinished"
    try:
        with _naming(path):
            with open(unfinished, "wb") as file:
                yield file
            with suppress(FileNotFoundError):
                _become(unfinished, os.stat(target))
            os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
        folder.rmdir()
