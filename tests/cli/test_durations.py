"""Test durations as arguments, and what the kernel keeps of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from conntrack_aio.cli import durations


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (durations.parse_entry_timeout, "soon", "invalid number of seconds 'soon'; expected"),
        (durations.parse_entry_timeout, "50000d", "range from 0 to 21474836 seconds"),
        (durations.parse_new_timeout, "0", "'0' is too short: the entry would end at once"),
        (durations.parse_new_timeout, "4294967295", "range from 1 to 21474836 seconds"),
        (durations.parse_expectation_timeout, "50d", "range from 0 to 4294967 seconds"),
        (durations.parse_policy_timeout, "25d", "range from 0 to 2147483 seconds"),
    ],
)
def test_wrong_durations_are_errors(
    parse: Callable[[str], object], text: str, message: str
) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        parse(text)
    assert message in str(caught.value)


def test_durations_within_the_range_are_seconds() -> None:
    assert durations.parse_entry_timeout("0") == 0
    assert durations.parse_new_timeout("1h30m") == 5400
    assert durations.parse_expectation_timeout("49d") == 4233600


def test_only_a_timeout_that_the_kernel_has_shortened_is_reported() -> None:
    assert durations.shortened(8640000, 8589934) == (
        "the kernel keeps no longer timeout than 8589934 seconds, instead of 8640000"
    )
    for wanted, kept in ((8640000, 8639998), (600, 500), (None, 5), (8640000, None)):
        assert durations.shortened(wanted, kept) == ""
