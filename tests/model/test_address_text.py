"""Texts of addresses are those of the ipaddress module."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrack_aio.model.address_text import (
    ipv4_text,
    ipv4_texts,
    ipv6_text,
    ipv6_texts,
    ipv6_texts_by_number,
)

GROUPS = st.sampled_from([0, 0, 0, 1, 0x10, 0xFFFF]) | st.integers(0, 0xFFFF)


@given(st.integers(0, (1 << 32) - 1))
def test_ipv4(number: int) -> None:
    assert ipv4_text(number) == ipv4_texts[number] == str(IPv4Address(number))


@given(st.lists(GROUPS, min_size=8, max_size=8))
def test_ipv6(groups: list[int]) -> None:
    address = IPv6Address(b"".join(group.to_bytes(2, "big") for group in groups))
    assert ipv6_text(address.packed) == str(address)


@pytest.mark.parametrize(
    "text",
    ["::", "::1", "1::", "1:0:2::3", "1:0:0:2::", "1:0:0:2:3:0:0:4", "1:0:2:3:4:5:6:0", "0:1::"],
)
def test_runs_of_zeros(text: str) -> None:
    address = IPv6Address(text)
    assert ipv6_texts[address.packed] == ipv6_texts_by_number[int(address)] == str(address)


@pytest.mark.parametrize("text", ["::ffff:10.0.0.1", "::10.0.0.1", "::fffe:1.2.3.4", "64:ff9b::1"])
def test_addresses_with_an_ipv4_address(text: str) -> None:
    assert ipv6_text(IPv6Address(text).packed) == str(IPv6Address(text))


@pytest.mark.parametrize("number", [-1, 1 << 32])
def test_a_number_out_of_range(number: int) -> None:
    with pytest.raises(OverflowError):
        ipv4_text(number)
