"""Save tables of any flows, restore them, and compare what the kernel then has."""

from __future__ import annotations

import io
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from support import expectations, flows
from support.effort import examples
from support.lab import Lab
from support.model_strategies import objects
from support.polling import wait_until
from support.saved_tables import in_order, saved_text, settable

from conntrack_aio import (
    AlreadyExists,
    Connection,
    Flow,
    Helper,
    NATRange,
    NewFlow,
    SCTPInfo,
    SCTPState,
    SeqAdj,
    Status,
    SynProxy,
    TCPFlags,
    TCPInfo,
    TCPState,
    Tuple,
    connect,
)
from conntrack_aio.cli.restore_report import RestoreReport, Result
from conntrack_aio.cli.restoring import (
    Restoration,
    RestoreOptions,
    changes_to,
    find_entry,
    is_half_scaled,
    is_same_entry,
)
from conntrack_aio.cli.saved_tables import SavedTable
from conntrack_aio.cli.saving import save_table
from conntrack_aio.testing import FakeKernel

pytestmark = [pytest.mark.kernel, pytest.mark.anyio]

RULE = "table inet t { chain c { type filter hook output priority 0; ct label set 5; }; }"
"""A rule that gives new entries room for labels."""


async def save(conn: Connection) -> SavedTable:
    lines: list[str] = []
    await save_table(conn, None, lines.append)
    table = SavedTable(io.BytesIO("".join(lines).encode()), "table")
    table.check()
    return table


async def restore(conn: Connection, table: SavedTable, **options: Any) -> dict[str, int]:
    """Restore a table, and return the numbers of flows by what was done with them."""
    report = RestoreReport(json=False, quiet=True, dry_run=False)
    await Restoration(conn, report, RestoreOptions(**options)).run(table)
    assert report.finish() == bool(report.failures), report.failures
    return report.numbers


async def create(conn: Connection, created: Iterable[Flow | NewFlow]) -> None:
    for outcome in await conn.create_many(created):
        outcome.result()


# Every flow that the kernel can have

PROTOCOLS = (1, 6, 6, 6, 17, 47, 58, 132, 136, 50)
STATUS = st.none() | st.sets(
    st.sampled_from([Status.SEEN_REPLY, Status.ASSURED, Status.FIXED_TIMEOUT])
).map(lambda bits: Status(sum(bits)))
TCP_FLAGS = st.integers(0, 0xFF).map(TCPFlags)
U32 = st.integers(0, 0xFFFFFFFF)
SEQADJ = st.builds(
    SeqAdj,
    correction_pos=U32,
    offset_before=st.integers(-(1 << 31), (1 << 31) - 1),
    offset_after=st.integers(-(1 << 31), (1 << 31) - 1),
)


def protoinfo(proto: int) -> st.SearchStrategy[Any]:
    if proto == 6:
        return st.builds(
            TCPInfo,
            state=st.sampled_from(list(TCPState)),
            wscale_orig=st.integers(0, 14),
            wscale_reply=st.integers(0, 14),
            flags_orig=TCP_FLAGS,
            flags_reply=TCP_FLAGS,
        )
    if proto == 132:
        states = [state for state in SCTPState if state <= SCTPState.SHUTDOWN_ACK_SENT]
        return st.builds(SCTPInfo, state=st.sampled_from(states), vtag_orig=U32, vtag_reply=U32)
    return st.none()


@st.composite
def tuples(draw: st.DrawFn) -> Tuple:
    proto = draw(st.sampled_from(PROTOCOLS))
    address: Any = IPv6Address if proto == 58 or draw(st.booleans()) else IPv4Address
    address = IPv4Address if proto == 1 else address
    if proto in (1, 58):
        types = (8, 13, 15, 17) if proto == 1 else (128, 139)
        given: dict[str, Any] = {
            "icmp_type": draw(st.sampled_from(types)),
            "icmp_code": 0,
            "icmp_id": draw(st.integers(0, 0xFFFF)),
        }
    else:
        ports = {"sport": draw(st.integers(0, 0xFFFF)), "dport": draw(st.integers(0, 0xFFFF))}
        given = {} if proto == 50 else ports
    return draw(objects(Tuple, address, {"proto": proto, "zone": None, **_absent(given), **given}))  # type: ignore[no-any-return]


def _absent(given: dict[str, Any]) -> dict[str, None]:
    return dict.fromkeys({"sport", "dport", "icmp_id", "icmp_type", "icmp_code"} - given.keys())


@st.composite
def new_flows(draw: st.DrawFn) -> NewFlow:
    """A flow with any fields that the kernel accepts."""
    orig = draw(tuples())
    reply = orig.inverse
    zone: int | None = draw(st.sampled_from([None, None, 1, 65535]))
    if zone is not None and draw(st.booleans()):
        end = draw(st.sampled_from([orig, reply]))
        end.zone, zone = zone, None
    flow = Flow(
        orig=orig,
        reply=reply,
        zone=zone,
        timeout=draw(st.integers(1000, 1_000_000)),
        mark=draw(st.none() | U32),
        labels=draw(st.none() | st.integers(0, (1 << 128) - 1)),
        status=draw(STATUS),
        protoinfo=draw(protoinfo(orig.proto)),
        synproxy=draw(st.none() | st.builds(SynProxy, isn=U32, its=U32, tsoff=U32)),
    )
    if draw(st.booleans()):
        flow.seqadj_orig, flow.seqadj_reply = draw(SEQADJ), draw(SEQADJ)
    helpers = {6: ["ftp", "sip", "sane"], 17: ["tftp", "sip", "amanda"]}.get(orig.proto)
    if helpers is not None and draw(st.integers(0, 3)) == 0:
        flow.helper = Helper(name=draw(st.sampled_from(helpers)))
    return NewFlow(flow, nat_src=draw(ranges(orig, "src")), nat_dst=draw(ranges(orig, "dst")))


def ranges(orig: Tuple, end: str) -> st.SearchStrategy[NATRange | None]:
    """Translations of one end. Most flows have none, some one that the kernel decided against."""
    family: type[Any] = type(orig.src)
    size = orig.src.max_prefixlen // 8
    # The kernel would translate the only id of ICMP with the destination, and back with the source.
    ports = st.none() if end == "dst" and orig.icmp_id is not None else st.integers(1, 0xFFFF)
    translated = st.builds(
        lambda address, port: NATRange(address_min=family(address), port_min=port),
        st.binary(min_size=size, max_size=size),
        st.none() | ports,
    )
    source = NATRange.of(orig.src, orig.sport if orig.icmp_id is None else orig.icmp_id)
    itself = source if end == "src" else NATRange.of(orig.dst, orig.dport)
    return st.one_of(st.none(), st.none(), st.just(itself), translated)


@settings(
    max_examples=examples(60),
    phases=[Phase.generate],  # shrinking would take minutes
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    created=st.lists(
        new_flows(), min_size=5, max_size=30, unique_by=lambda new: new.flow.orig.without_zone
    )
)
def test_a_restored_table_equals_the_saved_one(lab: Lab, created: list[NewFlow]) -> None:
    """It does so in all fields that the kernel lets be set, for any flows."""
    lab.program("nft", "-f", "-", input=f"flush ruleset\n{RULE}")

    async def main() -> None:
        async with connect(netns=lab.netns) as conn:
            await conn.flush()
            outcomes = await conn.create_many(created)
            before = await conn.list()
            for outcome in outcomes:  # a tuple, or what it is translated to, may be taken
                assert outcome.ok or isinstance(outcome.error, AlreadyExists)
            assert len(before) == sum(outcome.ok for outcome in outcomes)
            assume(before)
            table = await save(conn)
            await conn.flush()
            assert await restore(conn, table) == {Result.CREATED.value: len(before)}
            after = await conn.list()
            different = [
                (old, new)
                for old, new in zip(in_order(before), in_order(after), strict=True)
                if old != new
            ]
            assert not different
            timeouts = {flow.orig: flow.timeout or 0 for flow in before}
            for flow in after:
                assert timeouts[flow.orig] - 20 <= (flow.timeout or 0) <= timeouts[flow.orig]

    anyio.run(main)


# Relations, expectations, and what the kernel may refuse


async def test_masters_precede_their_flows_and_expectations_follow(
    lab: Lab, conn: Connection
) -> None:
    """The flows are in zones whose entries have the same tuples."""
    for zone in (None, 7):
        control = expectations.ftp(zone=zone)
        data = Flow.tcp("10.0.0.1", 1001, "10.0.0.2", 2020, timeout=600, zone=zone)
        data.master = control.orig
        await create(conn, [data, control])
        expected = expectations.data_connection(control)
        expected.timeout = 200 + (zone or 0)
        await conn.expectations.create(expected, zone=zone)
    before, expected_before = await conn.list(), await conn.expectations.list()
    table = await save(conn)
    await conn.flush()
    assert await conn.expectations.list() == []
    assert await restore(conn, table) == {"created": 4}
    assert in_order(await conn.list()) == in_order(before)
    for zone in (None, 7):
        (found,) = await conn.expectations.list(master=expectations.ftp(zone=zone))
        assert (found.timeout or 0) in range(190 + (zone or 0), 201 + (zone or 0))
    assert len(expected_before) == len(await conn.expectations.list()) == 2


async def test_an_expectation_in_the_zone_of_replies_is_restored(conn: Connection) -> None:
    orig = Tuple.tcp("10.0.0.1", 1000, "10.0.0.2", 21)
    reply = orig.inverse
    reply.zone = 3
    master = expectations.with_helper(Flow(orig=orig, reply=reply, timeout=600), "ftp")
    await create(conn, [master])
    expected = expectations.data_connection(master)
    expected.master = orig.inverse
    await conn.expectations.create(expected, zone=3)
    table = await save(conn)
    await conn.flush()
    assert await restore(conn, table) == {"created": 1}
    assert await conn.expectations.get(expectations.EXPECTED, zone=3)


async def test_expectations_that_exist_are_left_alone(conn: Connection) -> None:
    await expectations.create_expectation(conn)
    table = await save(conn)
    assert await restore(conn, table) == {"existing": 1}
    assert len(await conn.expectations.list()) == 1


async def test_a_flow_whose_master_has_ended_is_created_without_it(conn: Connection) -> None:
    """The kernel reports a master as long as its flows exist, even if it is not in the table."""
    control = await conn.create(expectations.ftp())
    data = Flow.tcp("10.0.0.1", 1001, "10.0.0.2", 2020, timeout=600)
    data.master = control.orig
    await create(conn, [data])
    await conn.delete(control)
    table = await save(conn)
    await conn.flush()
    report = RestoreReport(json=False, quiet=True, dry_run=False)
    await Restoration(conn, report, RestoreOptions()).run(table)
    assert (report.numbers, report.failures) == ({"created": 1}, [])
    (restored,) = await conn.list()
    assert (restored.orig, restored.master) == (data.orig, None)


async def test_a_flow_with_an_unknown_helper_is_created_without_it(
    conn: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = expectations.with_helper(flows.tcp(1, mark=3), "no such helper")
    table = table_of(flow, flows.tcp(2))
    report = RestoreReport(json=False, quiet=True, dry_run=False)
    await Restoration(conn, report, RestoreOptions()).run(table)
    assert report.finish() == 1
    assert report.numbers == {"created": 2}
    assert capsys.readouterr().err == (
        "conntrack-aio: 1 created without the helper: Operation not supported (ENOTSUP). This "
        "kernel has no such helper, or no NAT: tcp 10.1.0.1:40000 -> 10.2.0.1:80 "
        "helper=no such helper\n"
    )
    restored = await conn.get(flow.orig)
    assert (restored.mark, restored.helper) == (3, None)


async def test_labels_for_which_there_is_no_room_are_reported(lab: Lab, conn: Connection) -> None:
    """The kernel creates such a flow without an error."""
    labeled = [attrs.evolve(flows.tcp(number), labels=1 << number) for number in range(1, 6)]
    table = table_of(*labeled, flows.tcp(9))
    report = RestoreReport(json=False, quiet=True, dry_run=False)
    await Restoration(conn, report, RestoreOptions()).run(table)
    (failure,) = report.failures
    assert failure.startswith("5 created without the labels: No space left on device (ENOSPC)")
    assert failure.count("10.2.0.1:80") == 3
    assert failure.endswith(", …")
    await conn.flush()
    lab.program("nft", "-f", "-", input=RULE)
    assert await restore(conn, table) == {"created": 6}
    assert (await conn.get(labeled[2].orig)).labels == labeled[2].labels


async def test_the_window_scale_of_one_side_is_restored(conn: Connection) -> None:
    """The kernel stores window scales only if both sides have announced one."""
    info = TCPInfo(
        state=TCPState.SYN_SENT,
        wscale_orig=7,
        wscale_reply=0,
        flags_orig=TCPFlags.WINDOW_SCALE | TCPFlags.SACK_PERM,
        flags_reply=TCPFlags(0),
    )
    assert is_half_scaled(info)
    assert not is_half_scaled(attrs.evolve(info, flags_reply=TCPFlags.WINDOW_SCALE))
    assert not is_half_scaled(attrs.evolve(info, wscale_orig=0))
    assert not is_half_scaled(None)
    flow = attrs.evolve(flows.tcp(1), protoinfo=info)
    assert await restore(conn, table_of(flow)) == {"created": 1}
    (restored,) = await conn.list()
    assert restored.protoinfo == settable(flow).protoinfo


# Entries that exist


async def test_entries_that_exist_are_left_alone(conn: Connection) -> None:
    await create(conn, [flows.tcp(1, mark=1), flows.tcp(2, mark=2)])
    table = await save(conn)
    await conn.update(flows.tcp(1), mark=9)
    await conn.delete(flows.tcp(2))
    assert await restore(conn, table) == {"existing": 1, "created": 1}
    assert [(await conn.get(flows.tcp(number))).mark for number in (1, 2)] == [9, 2]


async def test_entries_that_exist_are_updated(lab: Lab, conn: Connection) -> None:
    lab.program("nft", "-f", "-", input=RULE)
    saved = attrs.evolve(
        flows.tcp(1, mark=1, timeout=500),
        labels=6,
        status=Status.SEEN_REPLY | Status.ASSURED,
        protoinfo=TCPInfo(state=TCPState.FIN_WAIT),
        seqadj_orig=SeqAdj(correction_pos=1, offset_before=2, offset_after=3),
        seqadj_reply=SeqAdj(correction_pos=4, offset_before=5, offset_after=6),
        synproxy=SynProxy(isn=1, its=2, tsoff=3),
    )
    others = [
        attrs.evolve(flows.tcp(2), labels=0),
        attrs.evolve(flows.tcp(3), zone=5, mark=7),
        NewFlow(flows.udp6(4), nat_src=NATRange.of("2001:db8::99", 5)),
    ]
    await create(conn, [saved, *others])
    before = await conn.list()
    table = await save(conn)
    await conn.flush()
    changed = [attrs.evolve(flows.tcp(1)), attrs.evolve(flows.tcp(2), labels=8, mark=1)]
    await create(conn, [*changed, *others[1:]])
    assert await restore(conn, table, update=True) == {"updated": 4}
    assert in_order(await conn.list()) == in_order(before)
    assert (await conn.get(saved.orig)).timeout in range(490, 501)


async def test_an_update_changes_no_more_than_it_can() -> None:
    """A fixed timeout cannot be changed, and status bits cannot be cleared."""
    fixed = attrs.evolve(flows.tcp(1, mark=5), status=Status.FIXED_TIMEOUT | Status.ASSURED)
    flow = attrs.evolve(flows.tcp(1, mark=5), status=Status.SEEN_REPLY)
    assert changes_to(fixed, flow) == {"status": Status.SEEN_REPLY}
    assert changes_to(flow, attrs.evolve(flow, mark=None)) == {"timeout": 600}


async def test_an_entry_in_the_way_of_another_flow_stays(conn: Connection) -> None:
    """It has the original tuple of one saved flow, and the reply tuple of the other."""
    saved = [
        NewFlow(flows.tcp(1), nat_src=NATRange.of("192.0.2.1", 4000)),
        NewFlow(flows.tcp(2), nat_src=NATRange.of("192.0.2.2", 4000)),
    ]
    await create(conn, saved)
    table = await save(conn)
    await conn.flush()
    reply = Tuple.tcp("10.2.0.1", 80, "192.0.2.2", 4000)
    in_the_way = [flows.tcp(1), Flow(orig=reply.inverse, reply=reply, timeout=60)]
    await create(conn, in_the_way)
    for options in ({}, {"update": True}):
        assert await restore(conn, table, **options) == {"failed": 2}
        kept = await conn.list()
        assert {flow.orig for flow in kept} == {flow.orig for flow in in_the_way}


async def test_find_entry_compares_both_tuples_and_the_zone(conn: Connection) -> None:
    flow, zoned = flows.tcp(1), flows.tcp(2)
    zoned.zone = 4
    await create(conn, [flow, zoned])
    for each in (flow, zoned):
        found = await find_entry(conn, each)
        assert found is not None
        assert is_same_entry(found, each)
    assert await find_entry(conn, flows.tcp(3)) is None
    assert await find_entry(conn, attrs.evolve(flow, zone=4)) is None
    other = attrs.evolve(flow, reply=attrs.evolve(flow.reply, dport=9))
    found = await find_entry(conn, other)
    assert found is not None
    assert not is_same_entry(found, other)


# Timeouts


async def test_the_elapsed_time_is_subtracted_on_request(conn: Connection) -> None:
    short, long = flows.tcp(1, timeout=50), flows.tcp(2, timeout=500)
    assert await restore(conn, table_of(short, long), elapsed=100) == {"expired": 1, "created": 1}
    (restored,) = await conn.list()
    assert restored.orig == long.orig
    assert (restored.timeout or 0) in range(390, 401)


# A kernel that cannot do everything


def table_of(*saved: Flow) -> SavedTable:
    table = SavedTable(io.BytesIO(saved_text(*saved).encode()), "table")
    table.check()
    return table


async def test_a_full_table_is_reported_once_with_examples() -> None:
    kernel = FakeKernel(sysctls={"nf_conntrack_max": 4})
    async with kernel.connect() as conn:
        report = RestoreReport(json=False, quiet=True, dry_run=False)
        await Restoration(conn, report, RestoreOptions()).run(
            table_of(*map(flows.tcp, range(1, 11)))
        )
    assert report.numbers == {"created": 4, "failed": 6}
    (failure,) = report.failures
    assert failure.startswith("6 not restored: Cannot allocate memory (ENOMEM). The table is full")
    assert len(kernel.flows) == 4


async def test_a_kernel_without_nat_restores_what_is_not_translated() -> None:
    decided = attrs.evolve(flows.tcp(1), status=Status.CONFIRMED | Status.NAT_DONE_MASK)
    translated = attrs.evolve(
        flows.tcp(2),
        reply=Tuple.tcp("10.2.0.1", 80, "192.0.2.1", 40000),
        status=Status.CONFIRMED | Status.NAT_DONE_MASK | Status.SRC_NAT,
    )
    async with FakeKernel(without=["nat"]).connect() as conn:
        report = RestoreReport(json=False, quiet=True, dry_run=False)
        await Restoration(conn, report, RestoreOptions()).run(table_of(decided, translated))
        assert [flow.orig for flow in await conn.list()] == [decided.orig]
    assert report.numbers == {"created": 1, "failed": 1}
    (failure,) = report.failures
    assert "no NAT" in failure


async def test_a_kernel_without_expectations_has_none_to_save() -> None:
    async with FakeKernel(flows=[expectations.ftp()]).connect() as conn:
        lines: list[str] = []
        assert await save_table(conn, None, lines.append) == (1, 0)


# Stopping


async def test_a_restore_that_is_cancelled_counts_all_that_it_sent(conn: Connection) -> None:
    table = table_of(*map(flows.tcp, range(1, 20_001)))
    report = RestoreReport(json=False, quiet=True, dry_run=False)
    restoration = Restoration(conn, report, RestoreOptions())
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            await wait_until(lambda: report.done > 0)
            scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel)
            await restoration.run(table)
    assert scope.cancelled_caught
    assert 0 < report.done < 20_000
    assert report.numbers == {"created": await conn.count()}
