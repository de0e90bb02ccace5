"""Test how durations and sizes are read."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrack_aio.quantities import parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("4294967295", 4294967295),
        ("90s", 90),
        ("10m", 600),
        ("2h", 7200),
        ("5d", 432000),
        ("1h30m", 5400),
        ("1d2h3m4s", 93784),
        ("2d5s", 172805),
    ],
)
def test_a_duration_is_a_number_or_numbers_with_units(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "1h30", "30m1h", "1m1m", "2w", "-1", "1.5h", "1 h", "1H", "٣", "1" * 41]
)
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("7", 7), ("8K", 8192), ("1M", 1 << 20), ("3G", 3 << 30), ("2T", 2 << 40)],
)
def test_a_size_is_a_number_with_a_power_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "K", "1k", "1KB", "1.5M", "-1", "1 M", "٣K"])
def test_other_texts_are_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@given(st.text() | st.text(alphabet="0123456789smhdKMGT"))
def test_any_text_is_a_quantity_or_an_error(text: str) -> None:
    for parse in (parse_duration, parse_size):
        with suppress(ValueError):
            assert parse(text) >= 0
