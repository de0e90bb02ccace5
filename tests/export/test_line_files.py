"""Test files of lines: what they have after crashes, full disks, rotation and renames."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.export_records import RECORDS, TIME

from conntrack_aio.export import line_files
from conntrack_aio.export.line_files import LineFile
from conntrack_aio.export.records import LostRecord, Record
from conntrack_aio.export.sinks import SinkError

pytestmark = pytest.mark.anyio


def numbered(*numbers: int) -> list[Record]:
    """Return records with different numbers."""
    return [LostRecord(time=TIME, records=number) for number in numbers]


def short(record: Record) -> str:
    """Write a record as a line of ten characters, with its newline."""
    assert isinstance(record, LostRecord)
    return f"{record.records:09d}"


def numbers_in(*paths: Path) -> list[int]:
    return [int(line) for path in paths for line in path.read_text().splitlines()]


def rotated(path: Path) -> list[Path]:
    return sorted(each for each in path.parent.iterdir() if each != path)


async def write(sink: LineFile, records: Sequence[Record]) -> int:
    await sink.open()
    try:
        return await sink.write(records)
    finally:
        await sink.close()


async def test_each_record_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "records"
    assert await write(LineFile(path), [*RECORDS.values()]) == len(RECORDS)
    kinds = [json.loads(line)["record"] for line in path.read_text().splitlines()]
    assert kinds == ["event", "flow", "flow", "lost", "lost", "resynchronized", "snapshot"]
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("size", [1, 9, 65_536, 200_000])
async def test_half_a_line_of_a_crash_is_cut_off(tmp_path: Path, size: int) -> None:
    path = tmp_path / "records"
    for before, kept in (("", []), ("000000001\n", [1])):
        path.write_text(before + "9" * size)
        await write(LineFile(path, short), numbered(2))
        assert numbers_in(path) == [*kept, 2]


async def test_a_full_disk_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes 25 bytes, which are two lines and a half, and then nothing."""
    path = tmp_path / "records"
    room = 25
    real = os.write

    def limited(descriptor: int, data: memoryview) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(descriptor, data[:room])
        room -= written
        return written

    sink = LineFile(path, short)
    await sink.open()
    monkeypatch.setattr(line_files.os, "write", limited)
    assert await sink.write(numbered(1, 2, 3)) == 2
    assert numbers_in(path) == [1, 2]
    with pytest.raises(SinkError, match=f"{path} cannot be written: No space left on device"):
        await sink.write(numbered(3))
    room = 1000
    assert await sink.write(numbered(3)) == 1
    assert numbers_in(path) == [1, 2, 3]
    await sink.close()


async def test_a_file_is_rotated_before_it_becomes_too_large(tmp_path: Path) -> None:
    path = tmp_path / "records"
    sink = LineFile(path, short, rotate_size=25)
    assert await write(sink, numbered(*range(5))) == 5
    assert [len(each.read_text()) for each in (*rotated(path), path)] == [20, 20, 10]
    assert numbers_in(*rotated(path), path) == [0, 1, 2, 3, 4]
    await write(sink, numbered(5, 6))  # the size that it has when it is opened counts
    assert numbers_in(path) == [6]


async def test_a_line_that_is_longer_than_a_file_has_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "records"
    await write(LineFile(path, short, rotate_size=5), numbered(1, 2))
    assert [numbers_in(each) for each in (*rotated(path), path)] == [[1], [2]]


async def test_a_file_is_rotated_when_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records"
    clock = 100.0
    monkeypatch.setattr(line_files.time, "monotonic", lambda: clock)
    sink = LineFile(path, short, rotate_interval=60)
    await sink.open()
    await sink.write(numbered(1))
    clock = 159.0
    await sink.write(numbered(2))
    assert rotated(path) == []
    clock = 160.0
    await sink.write(numbered(3))
    await sink.close()
    assert [numbers_in(each) for each in (*rotated(path), path)] == [[1, 2], [3]]


@pytest.mark.parametrize(("keep", "kept"), [(None, [0, 1, 2, 3, 4]), (2, [2, 3, 4]), (0, [4])])
async def test_only_some_rotated_files_are_kept(
    tmp_path: Path, keep: int | None, kept: list[int]
) -> None:
    path = tmp_path / "records"
    others = [tmp_path / name for name in ("records.old", "records.2026", "recordsX", "a.records")]
    await write(LineFile(path, short, rotate_size=10, keep=keep), numbered(*range(5)))
    assert numbers_in(*rotated(path), path) == kept
    for other in others:
        other.write_text("0\n")
    await write(LineFile(path, short, rotate_size=10, keep=0), numbered(5))
    assert all(other.exists() for other in others)


async def test_after_a_rename_the_name_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "records"
    sink = LineFile(path, short)
    await sink.open()
    await sink.write(numbered(1))
    path.rename(tmp_path / "renamed")
    await sink.write(numbered(2))
    await sink.reopen()
    await sink.write(numbered(3))
    await sink.close()
    assert (numbers_in(tmp_path / "renamed"), numbers_in(path)) == ([1, 2], [3])


async def test_a_file_that_cannot_be_opened_is_an_error_of_the_sink(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path, "Is a directory"),
        (tmp_path / "missing" / "records", "No such file or directory"),
    ):
        with pytest.raises(SinkError, match=f"{path} cannot be opened: {reason}"):
            await LineFile(path).open()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotate_size": 0}, "rotate_size must be positive; got 0"),
        ({"rotate_interval": -1}, "rotate_interval must be positive; got -1"),
        ({"keep": -1}, "keep must not be negative; got -1"),
    ],
)
def test_invalid_options_are_refused(tmp_path: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LineFile(tmp_path / "records", **options)  # type: ignore[arg-type]
