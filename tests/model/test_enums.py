"""The public enums: the kernel's members, and how they are written as text."""

from __future__ import annotations

import enum

import pytest

import conntrack_aio
from conntrack_aio import (
    Cause,
    ChangeType,
    DCCPRole,
    DCCPState,
    Direction,
    EventMode,
    EventType,
    ExpectFlags,
    HelperStatus,
    SCTPState,
    Status,
    TableMode,
    TCPFlags,
    TCPState,
)
from conntrack_aio.uapi.nf_conntrack_common import IPS, NF_CT_EXPECT
from conntrack_aio.uapi.nf_conntrack_dccp import CT_DCCP, CT_DCCP_ROLE
from conntrack_aio.uapi.nf_conntrack_sctp import SCTP_CONNTRACK
from conntrack_aio.uapi.nf_conntrack_tcp import IP_CT_TCP_FLAG, TCP_CONNTRACK
from conntrack_aio.uapi.nf_conntrack_tuple_common import IP_CT_DIR
from conntrack_aio.uapi.nfnetlink_cthelper import NFCT_HELPER_STATUS

PAIRS: list[tuple[type[enum.Enum], type[enum.Enum]]] = [
    (Status, IPS),
    (TCPFlags, IP_CT_TCP_FLAG),
    (DCCPState, CT_DCCP),
    (DCCPRole, CT_DCCP_ROLE),
    (Direction, IP_CT_DIR),
    (ExpectFlags, NF_CT_EXPECT),
    (HelperStatus, NFCT_HELPER_STATUS),
]
UP_TO_MAX: list[tuple[type[enum.IntEnum], type[enum.IntEnum]]] = [
    (TCPState, TCP_CONNTRACK),
    (SCTPState, SCTP_CONNTRACK),
]
ALL = [public for public, _ in [*PAIRS, *UP_TO_MAX]]
ALL += [EventType, EventMode, ChangeType, Cause, TableMode]


def members(enum_: type[enum.Enum]) -> list[tuple[str, object]]:
    return [(name, member.value) for name, member in enum_.__members__.items()]


@pytest.mark.parametrize(("public", "kernel"), PAIRS, ids=[str(pair[0]) for pair in PAIRS])
def test_public_members_equal_the_kernels(public: type[enum.Enum], kernel: type[enum.Enum]) -> None:
    assert members(public) == members(kernel)


@pytest.mark.parametrize(("public", "kernel"), UP_TO_MAX, ids=["TCP", "SCTP"])
def test_states_have_the_kernels_members_below_max(
    public: type[enum.IntEnum], kernel: type[enum.IntEnum]
) -> None:
    end = kernel["MAX"].value
    assert members(public) == [enum_ for enum_ in members(kernel) if enum_[1] < end]


@pytest.mark.parametrize("public", ALL, ids=lambda enum_: enum_.__name__)
def test_repr_and_pickle_use_the_name_that_is_imported(public: type[enum.Enum]) -> None:
    assert getattr(conntrack_aio, public.__name__) is public
    for member in public:
        assert repr(member).startswith(f"<{public.__name__}.{member.name}: ")


@pytest.mark.parametrize("public", ALL, ids=lambda enum_: enum_.__name__)
def test_text_is_the_name(public: type[enum.Enum]) -> None:
    for member in public:
        assert str(member) == f"{member}" == format(member) == member.name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Status.ASSURED | Status.SEEN_REPLY, "SEEN_REPLY|ASSURED"),
        (Status(0), "0"),
        (Status.ASSURED | Status(1 << 20), "ASSURED|0x100000"),
        (Status(1 << 20), "0x100000"),
        (Status.NAT_MASK, "SRC_NAT|DST_NAT"),
        (TCPFlags(0), "0"),
        (ExpectFlags.PERMANENT | ExpectFlags.INACTIVE, "PERMANENT|INACTIVE"),
    ],
)
def test_the_text_of_bits(value: enum.IntFlag, text: str) -> None:
    assert str(value) == f"{value}" == text


def test_a_numeric_format_formats_the_number() -> None:
    both = Status.ASSURED | Status.SEEN_REPLY
    assert f"{both:#x} {both:d} {both:b}" == "0x6 6 110"
    assert f"{TCPState.ESTABLISHED:d} {TCPState.ESTABLISHED:02x}" == "3 03"


def test_another_format_formats_the_name() -> None:
    assert f"{TCPState.CLOSE:>7}|{Status.ASSURED:<8}|" == "  CLOSE|ASSURED |"


def test_members_are_integers() -> None:
    assert Status.ASSURED == 4
    assert TCPState.ESTABLISHED == 3
    assert Status.ASSURED | 2 == 6
    assert isinstance(Status.ASSURED & 4, Status)
