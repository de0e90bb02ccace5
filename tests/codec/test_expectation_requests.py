"""The bytes of requests about expectations, and requests that are refused before sending."""

from __future__ import annotations

import errno
from copy import copy
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6, AF_UNSPEC
from typing import Any

import attrs
import pytest
from support.attribute_encoding import with_values
from support.codec_cases import (
    A6,
    EXPECTATION_TUPLES,
    EXPECTED4,
    EXPECTED4_PAYLOAD,
    IP6,
    MASK4,
    TCP4,
    TCP4_PAYLOAD,
    attr,
    be8,
    be16,
    be32,
    check_request,
    expectation,
    flow,
    nest,
)

from conntrack_aio import EncodeError, Tuple
from conntrack_aio.codec.requests import expectations as requests
from conntrack_aio.model.enums import Direction, ExpectFlags
from conntrack_aio.model.expectations import Expectation, ExpectNAT
from conntrack_aio.netlink.exchange import Request

NEW, GET, DELETE, GET_STATS_CPU = 0x200, 0x201, 0x202, 0x203
CREATE = 0x600
FOUND = nest(2, EXPECTED4_PAYLOAD)
V6 = Tuple(src=A6, dst=IPv6Address("2001:db8::2"), proto=50)
V6_INSIDE = IP6 + nest(2, be8(1, 50))


# Look-ups


def test_lookup_by_tuple() -> None:
    check_request(requests.get(EXPECTED4), GET, 0, AF_INET, FOUND)
    check_request(requests.get(EXPECTED4, 7), GET, 0, AF_INET, FOUND + be16(7, 7))
    check_request(requests.get(EXPECTED4, 0), GET, 0, AF_INET, FOUND + be16(7, 0))
    check_request(requests.get(V6), GET, 0, AF_INET6, nest(2, V6_INSIDE))


def test_dump() -> None:
    check_request(requests.dump(), GET, 0x300, AF_UNSPEC, b"")
    check_request(requests.dump(AF_INET6), GET, 0x300, AF_INET6, b"")
    for family in (1, 7):
        with pytest.raises(EncodeError, match="AF_INET6"):
            requests.dump(family)
    with pytest.raises(EncodeError, match="not an integer"):
        requests.dump("ipv4")  # type: ignore[arg-type]


def test_dump_of_a_master() -> None:
    master = nest(1, TCP4_PAYLOAD)
    check_request(requests.dump_of(TCP4), GET, 0x300, AF_INET, master)
    check_request(requests.dump_of(flow(id=1)), GET, 0x300, AF_INET, master)
    check_request(requests.dump_of(flow(zone=7)), GET, 0x300, AF_INET, master + be16(7, 7))
    check_request(requests.dump_of(flow(zone=7), 8), GET, 0x300, AF_INET, master + be16(7, 8))
    zoned = attrs.evolve(TCP4, zone=5)
    check_request(requests.dump_of(zoned), GET, 0x300, AF_INET, master + be16(7, 5))
    with pytest.raises(EncodeError) as caught:
        requests.dump_of(attrs.evolve(TCP4, sport=None))
    assert caught.value.path == ("master", "sport")
    with pytest.raises(TypeError, match="a target must be a Flow"):
        requests.dump_of(expectation())  # type: ignore[arg-type]


# Deleting


def test_delete() -> None:
    check_request(requests.delete(EXPECTED4, None), DELETE, 0, AF_INET, FOUND)
    check_request(
        requests.delete(EXPECTED4, 0, 7), DELETE, 0, AF_INET, FOUND + be32(5, 0) + be16(7, 7)
    )


def test_only_flush_deletes_without_a_tuple_or_a_name() -> None:
    check_request(requests.flush(), DELETE, 0, AF_UNSPEC, b"")
    check_request(requests.delete_by_helper("ftp"), DELETE, 0, AF_UNSPEC, attr(6, b"ftp\0"))
    for name in ("", "a" * 16, "a\0"):
        with pytest.raises(EncodeError) as caught:
            requests.delete_by_helper(name)
        assert caught.value.path == ("helper",)
    for other in (None, b"ftp", 1):
        with pytest.raises(TypeError, match="must be text"):
            requests.delete_by_helper(other)  # type: ignore[arg-type]
    for tuple_ in (None, 1, expectation(), flow()):
        with pytest.raises(EncodeError):
            requests.delete(tuple_, 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", [None, 1, "10.0.0.1", flow(), EXPECTED4.src])
def test_target_must_be_an_expectation_or_a_tuple(target: Any) -> None:
    with pytest.raises(TypeError, match="an Expectation, or the Tuple of one"):
        requests.tuple_of(target)


@pytest.mark.parametrize(
    ("tuple_", "path"),
    [
        (attrs.evolve(EXPECTED4, sport=None), "sport"),
        (attrs.evolve(EXPECTED4, dport=None), "dport"),
        (with_values(EXPECTED4, dst=A6), "dst"),
        (attrs.evolve(EXPECTED4, zone=0), "zone"),
        (Tuple(src=A6, dst=A6, proto=58, icmp_id=1, icmp_type=128), "icmp_code"),
    ],
)
def test_tuples_that_the_kernel_would_refuse_are_refused(tuple_: Tuple, path: str) -> None:
    for make_request, prefix in (
        (requests.tuple_of, ()),
        (requests.get, ()),
        (lambda tuple_: requests.delete(tuple_, None), ()),
        (lambda tuple_: requests.tuple_of(attrs.evolve(expectation(), tuple=tuple_)), ("tuple",)),
        (lambda tuple_: requests.create(attrs.evolve(expectation(), tuple=tuple_)), ("tuple",)),
        (lambda tuple_: requests.create(attrs.evolve(expectation(), master=tuple_)), ("master",)),
    ):
        with pytest.raises(EncodeError) as caught:
            make_request(tuple_)
        assert caught.value.path == (*prefix, path)


# Creating


def test_create() -> None:
    check_request(requests.create(expectation()), NEW, CREATE, AF_INET, EXPECTATION_TUPLES)
    full = expectation(
        flags=ExpectFlags.PERMANENT,
        expect_class=1,
        nat=ExpectNAT.of("10.0.0.3", 99, direction=Direction.REPLY),
        function="nat-follow-master",
    )
    nat = nest(1, attr(1, bytes([10, 0, 0, 3])), attr(2, bytes(4)))
    check_request(
        requests.create(full, "ftp", 7),
        NEW,
        CREATE,
        AF_INET,
        EXPECTATION_TUPLES
        + attr(6, b"ftp\0")
        + be32(8, 1)
        + be32(9, 1)
        + nest(10, be32(1, 1), nest(2, nat, nest(2, be8(1, 6), be16(2, 99), be16(3, 0))))
        + attr(11, b"nat-follow-master\0")
        + be16(7, 7),
    )


def test_values_that_only_the_kernel_sets_are_not_sent() -> None:
    read = expectation(timeout=300, id=5, helper="ftp", flags=ExpectFlags.USERSPACE)
    check_request(requests.create(read), NEW, CREATE, AF_INET, EXPECTATION_TUPLES + be32(8, 0))


def test_the_mask_of_icmp_has_a_type_that_exists() -> None:
    """The kernel reports a mask with the type 255, and accepts only types that exist."""
    echo = Tuple.icmp("10.0.0.1", "10.0.0.2", id=7)
    created = Expectation.of(TCP4, echo)
    assert (created.mask.icmp_type, created.mask.icmp_code, created.mask.icmp_id) == (
        255,
        255,
        0xFFFF,
    )
    ones = nest(1, attr(1, b"\xff" * 4), attr(2, b"\xff" * 4))
    mask = nest(3, ones, nest(2, be8(1, 1), be16(4, 0xFFFF), be8(5, 8), be8(6, 255)))
    assert requests.create(created).payload.endswith(mask)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"mask": attrs.evolve(MASK4, dst=IPv4Address("255.255.255.0"))}, "mask/dst"),
        ({"mask": attrs.evolve(MASK4, dst=IPv4Address(0))}, "mask/dst"),
        ({"mask": attrs.evolve(MASK4, dport=0)}, "mask/dport"),
        ({"mask": attrs.evolve(MASK4, proto=17)}, "mask/proto"),
        ({"mask": attrs.evolve(MASK4, sport=None)}, "mask/sport"),
        ({"mask": attrs.evolve(MASK4, zone=1)}, "mask/zone"),
        ({"mask": Tuple(src=A6, dst=A6, proto=6, sport=0, dport=0xFFFF)}, "mask"),
        ({"mask": None}, "mask"),
        ({"master": V6}, "tuple"),
        ({"master": None}, "master"),
        ({"tuple": flow()}, "tuple"),
        ({"flags": ExpectFlags(8)}, "flags"),
        ({"flags": -1}, "flags"),
        ({"flags": "PERMANENT"}, "flags"),
        ({"expect_class": -1}, "expect_class"),
        ({"expect_class": 1 << 32}, "expect_class"),
        ({"function": "f" * 64}, "function"),
        ({"function": "a\0"}, "function"),
        ({"function": 1}, "function"),
        ({"nat": TCP4}, "nat"),
        ({"nat": ExpectNAT.of("2001:db8::1", 9)}, "nat/tuple"),
        ({"nat": ExpectNAT(direction=2, tuple=TCP4)}, "nat/direction"),
        (
            {"nat": ExpectNAT(direction=0, tuple=attrs.evolve(TCP4, sport=None))},
            "nat/tuple/sport",
        ),
        ({"nat": ExpectNAT(direction=0, tuple=attrs.evolve(TCP4, zone=3))}, "nat/tuple/zone"),
    ],
    ids=str,
)
def test_create_refuses_fields_that_are_not_valid(fields: dict[str, Any], path: str) -> None:
    bad = copy(expectation())
    for name, value in fields.items():
        setattr(bad, name, value)
    with pytest.raises(EncodeError) as caught:
        requests.create(bad)
    assert "/".join(caught.value.path) == path


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"helper": "a" * 16}, "helper"),
        ({"helper": b"ftp"}, "helper"),
        ({"zone": 1 << 16}, "zone"),
        ({"zone": "7"}, "zone"),
    ],
)
def test_create_refuses_arguments_that_are_not_valid(arguments: dict[str, Any], path: str) -> None:
    with pytest.raises(EncodeError) as caught:
        requests.create(expectation(), **arguments)
    assert caught.value.path == (path,)


@pytest.mark.parametrize("argument", [None, EXPECTED4, flow()])
def test_create_refuses_other_types(argument: Any) -> None:
    with pytest.raises(TypeError, match="created from an Expectation"):
        requests.create(argument)


# Updating


def test_update_has_all_three_tuples_and_never_creates() -> None:
    found = expectation(timeout=300, id=5, helper="ftp", flags=ExpectFlags.PERMANENT)
    check_request(requests.update(found, 0), NEW, 0, AF_INET, EXPECTATION_TUPLES + be32(4, 0))
    check_request(
        requests.update(found, 9, 7), NEW, 0, AF_INET, EXPECTATION_TUPLES + be32(4, 9) + be16(7, 7)
    )


@pytest.mark.parametrize("timeout", [-1, requests.MAX_TIMEOUT + 1, 1.5, None, "60"])
def test_update_refuses_timeouts_that_the_kernel_would_change(timeout: Any) -> None:
    with pytest.raises(EncodeError) as caught:
        requests.update(expectation(), timeout)
    assert caught.value.path == ("timeout",)
    assert (requests.MAX_TIMEOUT + 1) * 1000 > 0xFFFFFFFF


def test_statistics() -> None:
    check_request(requests.cpu_statistics(), GET_STATS_CPU, 0x300, AF_UNSPEC, b"")


# Text and hints

TUPLE_TEXT = "tcp 10.0.0.1:0 -> 10.0.0.2:2050"


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (requests.get(EXPECTED4), f"get expectation {TUPLE_TEXT}"),
        (requests.get(EXPECTED4, verb="find"), f"find expectation {TUPLE_TEXT}"),
        (requests.delete(EXPECTED4, 1), f"delete expectation {TUPLE_TEXT}"),
        (requests.update(expectation(), 1), f"update expectation {TUPLE_TEXT}"),
        (requests.create(expectation()), f"create expectation {TUPLE_TEXT}"),
        (requests.delete_by_helper("ftp"), "delete the expectations of helper ftp"),
        (requests.flush(), "flush the expectations"),
        (requests.dump(), "dump the expectations"),
        (
            requests.dump_of(TCP4),
            "dump the expectations of tcp 10.0.0.1:1024 -> 10.0.0.2:80",
        ),
        (requests.cpu_statistics(), "read the statistics of expectations"),
    ],
)
def test_the_text_of_a_request(request_: Request, text: str) -> None:
    assert str(request_) == text


CREATED = requests.create(expectation())


@pytest.mark.parametrize(
    ("request_", "code", "hint"),
    [
        (CREATED, errno.EOPNOTSUPP, "no helper"),
        (CREATED, errno.ESHUTDOWN, "helper"),
        (CREATED, errno.EINVAL, "function"),
        (CREATED, errno.EMFILE, "nf_conntrack_expect_max"),
        (CREATED, errno.EBUSY, "overlap"),
        (CREATED, errno.EEXIST, "expectation with this tuple"),
        (CREATED, errno.EALREADY, "another master"),
        (CREATED, errno.ENOENT, "master is missing"),
        (requests.dump_of(TCP4), errno.ENOENT, "zone"),
        (requests.get(EXPECTED4), errno.ENOENT, "zone"),
        (requests.delete(EXPECTED4, 1), errno.ENOENT, "expired"),
        (requests.update(expectation(), 1), errno.ETIME, "expired"),
    ],
)
def test_a_request_has_hints_for_errors(request_: Request, code: int, hint: str) -> None:
    assert hint in request_.hints[code]
