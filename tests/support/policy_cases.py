"""Timeout policies and user-space helpers, and their encoded attributes."""

from __future__ import annotations

from conntrack_aio import UnknownAttribute
from conntrack_aio.model.helpers import ExpectPolicy, HelperStatus, UserspaceHelper
from conntrack_aio.model.timeouts import (
    DCCPTimeouts,
    GenericTimeouts,
    GRETimeouts,
    ICMPTimeouts,
    ICMPv6Timeouts,
    SCTPTimeouts,
    TCPTimeouts,
    TimeoutPolicy,
    UDPTimeouts,
)

from .attribute_encoding import Case, attr, be8, be16, be32, nest


def seconds(*values: int) -> bytes:
    """Return the attributes 1, 2, and so on, each with one of these numbers."""
    return b"".join(be32(number, value) for number, value in enumerate(values, 1))


def policy_head(name: bytes, family: int, proto: int) -> bytes:
    """Return the first attributes of a timeout policy: name, family and protocol."""
    return attr(1, name + b"\0") + be16(2, family) + be8(3, proto)


PER_PROTOCOL = [
    (
        6,
        TCPTimeouts(
            syn_sent=1,
            syn_recv=2,
            established=432000,
            fin_wait=4,
            close_wait=5,
            last_ack=6,
            time_wait=7,
            close=8,
            syn_sent2=9,
            retrans=10,
            unack=0xFFFFFFFF,
        ),
        seconds(1, 2, 432000, 4, 5, 6, 7, 8, 9, 10, 0xFFFFFFFF),
    ),
    (17, UDPTimeouts(unreplied=0, replied=1), seconds(0, 1)),
    (136, UDPTimeouts(replied=1), be32(2, 1)),
    (
        132,
        SCTPTimeouts(
            closed=1,
            cookie_wait=2,
            cookie_echoed=3,
            established=4,
            shutdown_sent=5,
            shutdown_recd=6,
            shutdown_ack_sent=7,
            heartbeat_sent=8,
            heartbeat_acked=0,
        ),
        seconds(1, 2, 3, 4, 5, 6, 7, 8, 0),
    ),
    (1, ICMPTimeouts(timeout=30), seconds(30)),
    (58, ICMPv6Timeouts(timeout=31), seconds(31)),
    (47, GRETimeouts(unreplied=32, replied=33), seconds(32, 33)),
    (255, GenericTimeouts(timeout=600), seconds(600)),
    (
        33,
        DCCPTimeouts(request=1, respond=2, partopen=3, open=4, closereq=5, closing=6, timewait=7),
        seconds(1, 2, 3, 4, 5, 6, 7),
    ),
]
"""The timeouts of each protocol for which a kernel has or had timeouts."""

POLICIES = [
    *(Case(f"timeouts of protocol {n}", timeouts, data) for n, timeouts, data in PER_PROTOCOL),
    *(
        Case(
            f"a timeout policy of protocol {n}",
            TimeoutPolicy(name="a", family=2, proto=n, timeouts=timeouts, use=1),
            policy_head(b"a", 2, n) + nest(4, data) + be32(5, 1),
        )
        for n, timeouts, data in PER_PROTOCOL
    ),
    Case(
        "an empty timeout policy",
        TimeoutPolicy(name="", family=0, proto=6, timeouts=TCPTimeouts()),
        policy_head(b"", 0, 6) + nest(4),
    ),
    Case(
        "a timeout policy without timeouts",
        TimeoutPolicy(name="x" * 31, family=99, proto=6),
        policy_head(b"x" * 31, 99, 6),
    ),
    Case(
        "a timeout policy of an unknown protocol",
        TimeoutPolicy(
            name="a",
            family=10,
            proto=200,
            unknown=(UnknownAttribute((4,), be32(1, 5), nested=True),),
        ),
        policy_head(b"a", 10, 200) + nest(4, be32(1, 5)),
    ),
    Case(
        "a timeout policy with an unknown timeout",
        TimeoutPolicy(
            name="a",
            family=10,
            proto=17,
            timeouts=UDPTimeouts(unreplied=3),
            unknown=(UnknownAttribute((4, 3), b"\0\0\0\x05"),),
        ),
        policy_head(b"a", 10, 17) + nest(4, be32(1, 3), be32(3, 5)),
    ),
]


def expect_policy(number: int, name: bytes, most: int, timeout: int, *more: bytes) -> bytes:
    """Return the attribute of one class of a helper's expectations.

    :param number: the number of the attribute; the first class has 2.
    """
    return nest(number, attr(1, name + b"\0"), be32(2, most), be32(3, timeout), *more)


HELPER_KEY = nest(2, be16(1, 2), be8(2, 6))

HELPERS = [
    Case(
        "a helper with four policies",
        UserspaceHelper(
            name="amanda",
            family=2,
            proto=6,
            policies=tuple(
                ExpectPolicy(name=f"class{n}", expect_max=n, expect_timeout=300) for n in range(4)
            ),
            queue=65535,
            private_data_length=32,
            status=HelperStatus.ENABLED,
        ),
        attr(1, b"amanda\0")
        + HELPER_KEY
        + nest(
            4,
            be32(1, 4),
            expect_policy(2, b"class0", 0, 300),
            expect_policy(3, b"class1", 1, 300),
            expect_policy(4, b"class2", 2, 300),
            expect_policy(5, b"class3", 3, 300),
        )
        + be32(3, 65535)
        + be32(5, 32)
        + be32(6, 1),
    ),
    Case(
        "a helper with zero values",
        UserspaceHelper(
            name="x" * 15,
            family=2,
            proto=6,
            policies=(ExpectPolicy(name="", expect_max=255, expect_timeout=0),),
            queue=0,
            private_data_length=0,
            status=HelperStatus.DISABLED,
        ),
        attr(1, b"x" * 15 + b"\0")
        + HELPER_KEY
        + nest(4, be32(1, 1), expect_policy(2, b"", 255, 0))
        + be32(3, 0)
        + be32(5, 0)
        + be32(6, 0),
    ),
    Case(
        "a helper with an unknown status",
        UserspaceHelper(name="", family=2, proto=6, status=2),
        attr(1, b"\0") + HELPER_KEY + be32(6, 2),
    ),
    Case(
        "a helper with unknown attributes, in a policy and next to the policies",
        UserspaceHelper(
            name="a",
            family=2,
            proto=6,
            policies=(ExpectPolicy(name="b", expect_max=1, expect_timeout=2),),
            unknown=(
                UnknownAttribute((4, 2, 4), b"\x01"),
                UnknownAttribute((4, 6), b"", nested=True),
            ),
        ),
        attr(1, b"a\0")
        + HELPER_KEY
        + nest(4, be32(1, 1), expect_policy(2, b"b", 1, 2, attr(4, b"\x01")), nest(6)),
    ),
]
