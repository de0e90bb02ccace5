"""Compare expectations with conntrack(8): both list the same, and get the same events."""

from __future__ import annotations

import signal
from ipaddress import IPv4Address

import pytest
from support import conntrack8_expect as conntrack8
from support import expectations
from support.conntrack8 import conntrack
from support.lab import Lab
from support.processes import Process, count_subscribers, wait_until

from conntrack_aio import Connection, Flow, Tuple
from conntrack_aio.model.enums import ExpectFlags
from conntrack_aio.model.expectations import Expectation, ExpectNAT

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.kernel,
    pytest.mark.program("conntrack", "conntrack"),
    pytest.mark.program("unshare", "util-linux"),
]

EXP_NEW, EXP_UPDATE, EXP_DESTROY = 0x08, 0x10, 0x20
PLAIN = expectations.EXPECTED
V6 = Tuple.tcp("fd00::1", 0, "fd00::2", 2050)
MASTERS = {4: expectations.irc, 6: expectations.ftp6}
CASES = [
    {"tuple": PLAIN},
    {"tuple": PLAIN, "any_sport": True},
    {"tuple": PLAIN, "any_src": True, "flags": ExpectFlags.PERMANENT},
    {"tuple": PLAIN, "flags": ExpectFlags.PERMANENT | ExpectFlags.INACTIVE, "timeout": 99},
    {"tuple": PLAIN, "nat": ExpectNAT.of("192.0.2.1", 7), "function": "nat-follow-master"},
    {"tuple": Tuple.udp("10.0.0.1", 9, "10.0.0.2", 65535)},
    {"tuple": Tuple.icmp("10.0.0.1", "10.0.0.2", id=0xBEEF)},
    {
        "tuple": Tuple(
            src=IPv4Address("10.0.0.1"), dst=IPv4Address("10.0.0.2"), proto=47, sport=1, dport=2
        )
    },
    {"tuple": Tuple(src=IPv4Address("10.0.0.1"), dst=IPv4Address("10.0.0.2"), proto=50)},
    {"tuple": V6},
    {"tuple": V6, "any_src": True, "any_sport": True},
    {"tuple": Tuple.icmp("fd00::1", "fd00::2", id=7), "any_sport": True},
]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_both_list_the_same_expectations(
    lab: Lab, conn: Connection, case: dict[str, object]
) -> None:
    arguments = dict(case)
    tuple_ = arguments.pop("tuple")
    assert isinstance(tuple_, Tuple)
    master = await conn.create(MASTERS[tuple_.src.version]())
    await conn.expectations.create(Expectation.of(master.orig, tuple_, **arguments))  # type: ignore[arg-type]
    (before,) = await conn.expectations.list()
    lines, elements = conntrack8.list_expectations(lab, tuple_.src.version)
    for xml, listed in ((False, lines), (True, elements)):
        ours = conntrack8.expected_facts(before, xml=xml)
        (theirs,) = listed
        assert 0 <= ours.pop("timeout") - theirs.pop("timeout") <= 2  # type: ignore[operator]
        assert theirs == ours


async def test_each_sees_that_the_other_has_flushed(lab: Lab, conn: Connection) -> None:
    await expectations.create_expectation(conn)
    conntrack(lab, "-F", "expect")
    assert await conn.expectations.list() == []
    await expectations.create_expectation(conn, expectations.irc())
    await conn.expectations.flush()
    assert conntrack8.list_expectations(lab, 4) == ([], [])


async def test_both_receive_the_same_events(lab: Lab, conn: Connection) -> None:
    """The kernel multicasts one message per event, so that even the timeouts are equal."""
    async with conn.expectations.events() as stream:
        with Process(lab, "conntrack", "-E", "expect") as listener:
            # conntrack(8) subscribes to update events, too, which the kernel never sends.
            wait_until(lambda: count_subscribers(lab, EXP_NEW | EXP_UPDATE | EXP_DESTROY) == 1)
            masters: list[Flow] = [
                await conn.create(build()) for build in (expectations.irc, expectations.ftp6)
            ]
            created = [
                await conn.expectations.create(expectations.data_connection(master))
                for master in masters
            ]
            permanent = Expectation.of(masters[0].orig, PLAIN, flags=ExpectFlags.PERMANENT)
            await conn.expectations.create(permanent)
            await conn.expectations.delete(created[0])
            await conn.expectations.delete_by_helper("ftp")
            await conn.delete(masters[0])
            for event in await expectations.next_events(stream, 6):
                assert conntrack8.from_line(listener.line()) == conntrack8.expected_event_facts(
                    event
                )
            listener.signal(signal.SIGINT)
            status, errors = listener.wait()
            assert (status, "expectation events have been shown" in errors) == (0, True), errors
