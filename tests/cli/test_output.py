"""Standard output as the command writes it."""

from __future__ import annotations

import contextlib
import io

import pytest

from conntrack_aio.cli.output import OutputError, write_line, write_lines


def ascii_output() -> tuple[io.BytesIO, io.TextIOWrapper]:
    """Return an output that can only encode ASCII, and what it writes to."""
    written = io.BytesIO()
    return written, io.TextIOWrapper(written, encoding="ascii")


def test_lines_are_written_as_they_are() -> None:
    written, output = ascii_output()
    with contextlib.redirect_stdout(output):
        write_lines("one\ntwo\n")
        assert written.getvalue() == b""
        write_line("three", flush=True)
    assert written.getvalue() == b"one\ntwo\nthree\n"


def test_characters_that_cannot_be_encoded_are_escaped() -> None:
    """A name may have bytes that are not UTF-8, and a locale may have few characters."""
    written, output = ascii_output()
    with contextlib.redirect_stdout(output):
        write_lines("one\nbl\xe5 helper=\udcff\nthree\n", flush=True)
    assert written.getvalue() == b"one\nbl\\xe5 helper=\\udcff\nthree\n"


def test_a_closed_output_is_an_error() -> None:
    _, output = ascii_output()
    output.close()
    with contextlib.redirect_stdout(output), pytest.raises(OutputError, match="closed"):
        write_lines("one\n")
