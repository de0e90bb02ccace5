"""Test how numbers and ports are written for people."""

from __future__ import annotations

import pytest

from conntrack_aio.cli.terminal import service_name, short_number


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.0k"),
        (9999, "9.9k"),
        (10_000, "10k"),
        (999_999, "999k"),
        (1_000_000, "1.0M"),
        (1_250_001, "1.2M"),
        (34_000_000_000, "34G"),
        ((1 << 64) - 1, "18E"),
        (1 << 65, "36E"),
    ],
)
def test_numbers_are_rounded_down(number: int, text: str) -> None:
    assert short_number(number) == text


def test_well_known_ports_have_names() -> None:
    assert service_name(443, "tcp") == "https"
    assert service_name(1, "icmp") is None
    assert service_name(3306, "tcp") is None  # clients use such ports, too
