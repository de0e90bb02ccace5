"""Check that a file takes the place of another one only when it is whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from threading import Thread

import pytest

from conntrack_aio import PermissionDenied
from conntrack_aio.cli.whole_files import written_whole


def names_in(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    path = tmp_path / "new"
    usual = tmp_path / "usual"
    usual.touch()
    with written_whole(str(path)) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode == usual.stat().st_mode
    assert names_in(tmp_path) == ["new", "usual"]


def test_a_file_is_replaced_with_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old and longer")
    path.chmod(0o640)
    with written_whole(str(path)) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old and longer"
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_that_is_replaced_keeps_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "chown", lambda path, uid, gid: owners.append((uid, gid)))
    path = tmp_path / "file"
    path.touch()
    for _ in range(2):
        with written_whole(str(path)) as file:
            file.write(b"new")
    known = path.stat()
    assert owners == [(known.st_uid, known.st_gid)] * 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_an_unfinished_file_replaces_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write() -> None:
        with written_whole(str(path)) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    with written_whole(str(tmp_path / "link")) as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_relative_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with written_whole("file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_pipe_is_written_at_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[bytes] = []
    reader = Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    with written_whole(str(path)) as file:
        file.write(b"some")
    reader.join()
    assert read == [b"some"]
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/nonexistent/x", "No such file or directory"),
        ("/dev/full", "No space left on device"),
        ("/proc", "Is a directory"),
    ],
)
def test_an_error_names_the_file(path: str, reason: str) -> None:
    with pytest.raises(OSError, match=reason) as failed, written_whole(path) as file:
        file.write(b"some")
    assert failed.value.filename == path


def test_an_error_of_the_kernel_is_not_one_of_the_file(tmp_path: Path) -> None:
    error = PermissionDenied(1, "dump the table")
    before = str(error)
    with pytest.raises(PermissionDenied) as failed, written_whole(str(tmp_path / "file")):
        raise error
    assert str(failed.value) == before
    assert failed.value.filename is None
