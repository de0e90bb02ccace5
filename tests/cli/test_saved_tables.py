"""Check that files with a saved table are read as they were written, and others are refused."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import expectations, flows
from support.saved_tables import saved_text

from conntrack_aio import Flow, Status
from conntrack_aio.cli import saved_tables
from conntrack_aio.cli.failures import CommandError
from conntrack_aio.cli.saved_tables import (
    OFFLOADED_TIMEOUT,
    SavedExpectation,
    SavedTable,
    expectation_line,
    first_line,
    last_line,
    opened,
)
from conntrack_aio.codec.json_lines import json_lines

MASTER = expectations.ftp()
EXPECTATION = SavedExpectation(expectations.data_connection(MASTER), 7)


def related(number: int) -> Flow:
    flow = flows.tcp(number)
    flow.master = MASTER.orig
    return flow


def read(text: str | bytes) -> SavedTable:
    table = SavedTable(io.BytesIO(text.encode() if isinstance(text, str) else text), "t")
    table.check()
    return table


def refused(text: str | bytes) -> str:
    """Return the error for a file."""
    with pytest.raises(CommandError) as caught:
        read(text)
    return str(caught.value)


GOOD = (
    first_line(5)
    + json_lines([related(1), flows.tcp(2), MASTER])
    + expectation_line(EXPECTATION)
    + last_line(3, 1)
)


def test_a_table_is_read_as_it_was_written() -> None:
    table = read(GOOD)
    assert (table.time, table.flows) == (5, 3)
    assert table.related == [related(1)]
    assert list(table.unrelated()) == [flows.tcp(2), MASTER]
    assert table.expectations == [EXPECTATION]
    assert table.checked == 5


def test_a_table_that_is_too_large_to_keep_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_tables, "_KEPT", 1)
    table = read(GOOD)
    for _ in range(2):
        assert list(table.unrelated()) == [flows.tcp(2), MASTER]


def test_a_file_that_changes_after_the_check_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(saved_tables, "_KEPT", 0)
    file = tmp_path / "table"
    file.write_text(GOOD)
    with opened(str(file)) as table:
        table.check()
        file.write_text(GOOD[: len(GOOD) // 2])
        with pytest.raises(CommandError, match=r"table: line \d: "):
            list(table.unrelated())


def test_a_table_may_come_through_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    many = saved_text(*map(flows.tcp, range(1000)))  # more than a pipe holds
    writer = threading.Thread(target=pipe.write_text, args=(many,))
    writer.start()
    with opened(str(pipe)) as table:
        table.check()
        assert [flow.orig for flow in table.unrelated()] == [
            flow.orig for flow in map(flows.tcp, range(1000))
        ]
    writer.join()


def test_what_identifies_the_former_entry_is_dropped() -> None:
    flow = flows.tcp(1)
    flow.id = 7
    (found,) = read(saved_text(flow)).unrelated()
    assert (found.id, found.timestamp) == (None, None)


def test_an_offloaded_flow_gets_a_timeout() -> None:
    flow = flows.tcp(1)
    flow.timeout, flow.status = None, Status.CONFIRMED | Status.OFFLOAD
    (found,) = read(saved_text(flow)).unrelated()
    assert found.timeout == OFFLOADED_TIMEOUT
    flow.status = Status.CONFIRMED
    assert refused(saved_text(flow)) == "t: line 2: timeout: a flow that is not offloaded needs one"


def test_every_truncated_table_is_refused() -> None:
    for length in range(len(GOOD) - 1):
        message = refused(GOOD[:length])
        assert message.startswith("t: "), message
    assert read(GOOD[:-1]).flows == 3  # only the newline at its end is missing


def without_line(number: int) -> str:
    lines = GOOD.splitlines(keepends=True)
    return "".join(lines[: number - 1] + lines[number:])


def replaced(number: int, line: str) -> str:
    lines = GOOD.splitlines(keepends=True)
    lines[number - 1] = f"{line}\n"
    return "".join(lines)


def header(**changes: object) -> str:
    return replaced(1, json.dumps({**json.loads(first_line(5)), **changes}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t: the file is empty"),
        (
            json_lines([flows.tcp(1)]),
            "t: line 1: this is not the first line of a table that `save`",
        ),
        *(
            (
                f"{start}-t 100 -u SEEN_REPLY,ASSURED -s 10.0.0.1 -d 10.0.0.2\n",
                "t: line 1: this is the output of `conntrack -o save`; restore it with "
                "`conntrack-aio -R FILE`",
            )
            for start in ("-A ", " -D ", "-U ")
        ),
        ("-Anything", "t: line 1: this is not JSON"),
        (header(format="other"), "t: line 1: this is not the first line"),
        (header(version=2), "t: line 1: version 2 of the format is not known; expected 1"),
        (header(version=True), "t: line 1: version true of the format"),
        (header(version="1"), "t: line 1: version '1' of the format"),
        (header(time="now"), "t: line 1: time: must be a number; got 'now'"),
        (header(time=None), "t: line 1: time: must be a number; got null"),
        (header(time=1.5), "t: line 1: time: must be a number; got 1.5"),
        (without_line(1), "t: line 1: this is not the first line"),
        (without_line(3), "t: line 5: there are 2 flows and 1 expectations above, but"),
        (without_line(5), "t: line 5: there are 3 flows and 0 expectations above, but"),
        (without_line(6), "t: line 5: the file ends here, without its last line"),
        (GOOD + "{}\n", "t: line 7: something follows the last line"),
        (GOOD + GOOD, "t: line 7: something follows the last line"),
        (GOOD + "\n", "t: line 7: this is not JSON"),
        (replaced(3, ""), "t: line 3: this is not JSON"),
        (replaced(3, "{"), "t: line 3: this is not JSON"),
        (replaced(3, "[]"), "t: line 3: must be an object; got a list"),
        (replaced(3, "[" * 100_000), "t: line 3: this is not JSON"),
        (replaced(3, "9" * 5000), "t: line 3: this is not JSON"),
        (replaced(3, "{}"), "t: line 3: orig: Flow requires this field"),
        (replaced(3, '{"origin": 1}'), "t: line 3: unknown field 'origin' of Flow"),
        (replaced(5, '{"expectation": {}}'), "t: line 5: expectation/master: Expectation requires"),
        (
            GOOD.replace('"zone": 7', '"zone": 65536'),
            "t: line 5: zone: 65536 is not in the range from 0 to 65535",
        ),
        (GOOD.replace('"zone": 7', '"zone": "a"'), "t: line 5: zone: "),
        (GOOD.replace('"zone": 7', '"zon": 7'), "t: line 5: unknown field 'zon'"),
        (GOOD.replace('"sport": 40000', '"sport": 65536', 1), "t: line 2: orig/sport"),
        (GOOD.replace('"proto": 6', '"proto": 17', 1), "t: line 2: reply/proto: must be the proto"),
        (b"\x00" * 3, "t: line 1: this is not JSON"),
        (b"\x00" * (3 << 20), "t: line 1: this is longer than any line of a saved table"),
        (first_line(5).encode() + b"\xff\xfe\x00", "t: line 2: this is not JSON"),
        (replaced(3, '{"orig": "' + "x" * (1 << 20) + '"}'), "t: line 3: this is longer than any"),
    ],
    ids=lambda value: str(value[:40]),
)
def test_other_files_are_refused_with_the_line(text: str | bytes, message: str) -> None:
    assert refused(text).startswith(message)


@given(st.binary(max_size=200), st.integers(0, len(GOOD)), st.integers(0, 20))
def test_random_bytes_are_refused(data: bytes, at: int, length: int) -> None:
    """Random bytes, and a table some of whose bytes are replaced, raise nothing else."""
    good = GOOD.encode()
    for text in (data, good[:at] + data + good[at + length :]):
        try:
            table = read(text)
        except CommandError as error:
            assert str(error).startswith("t: ")  # noqa: PT017 - not every change is an error
        else:
            assert table.flows == 3


@pytest.mark.parametrize("make", [os.mkdir, lambda path: None], ids=["directory", "missing"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, make: Callable[[str], object]) -> None:
    path = str(tmp_path / "table")
    make(path)
    with pytest.raises(OSError, match="table"), opened(path):
        pass
