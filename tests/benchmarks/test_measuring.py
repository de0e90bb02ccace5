"""The benchmarks take fair turns, compare the same flows, and restore the machine's settings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

import pytest
from support.lab import Lab

from benchmarks import isolation, tables
from benchmarks.contenders.matching import Listener, create_while_listening
from benchmarks.contenders.ours import digest, observe
from benchmarks.figures.filters import flows_in, networks
from benchmarks.options import Options
from benchmarks.report import Figure, Line, Report, as_markdown, as_text
from benchmarks.timing import (
    Contender,
    Disagreement,
    Observation,
    Spread,
    Timing,
    check,
    in_turns,
    ratios,
    wall_time_per_item,
)
from conntrack_aio import Connection, EventsLost, Flow, Match


def contender(
    name: str, observation: Observation | None = None, run: Callable[[], Timing] | None = None
) -> Contender:
    return Contender(
        name,
        run or (lambda: Timing(1.0, 1.0, 1)),
        None if observation is None else lambda: observation,
    )


def test_contenders_take_turns() -> None:
    order: list[str] = []

    def run(name: str) -> Timing:
        order.append(name)
        return Timing(1.0, 1.0, 1)

    contenders = [contender(name, run=lambda name=name: run(name)) for name in "abc"]
    timings = in_turns(contenders, 2)
    assert order == [*"abcabc"]
    assert [len(timings[name]) for name in "abc"] == [2, 2, 2]


def test_times_are_per_flow_and_ratios_are_between_runs_of_one_turn() -> None:
    timings = {
        "floor": [Timing(1.0, 0.5, 1000), Timing(10.0, 0.5, 1000), Timing(1.0, 0.5, 1000)],
        "ours": [Timing(2.0, 0.5, 1000), Timing(20.0, 0.5, 1000), Timing(3.0, 0.5, 1000)],
    }
    assert wall_time_per_item(timings["ours"]) == Spread(3000.0, 2000.0, 20000.0)
    assert ratios(timings, "ours", "floor") == Spread(2.0, 2.0, 3.0)


def test_a_contender_that_reads_other_flows_is_reported() -> None:
    check(
        [
            contender("a", Observation(2)),
            contender("b", Observation(2, 7)),
            contender("c", Observation(2, 7)),
        ],
        2,
    )
    with pytest.raises(Disagreement, match=r"expected a count of 3; got \{'a': 2\}"):
        check([contender("a", Observation(2))], 3)
    with pytest.raises(Disagreement, match="the checksums differ"):
        check([contender("a", Observation(2, 7)), contender("b", Observation(2, 8))], 2)


def test_the_digest_depends_on_every_field_that_is_read() -> None:
    flow = Flow.tcp("10.0.0.1", 1, "10.0.0.2", 2, timeout=9, mark=3)
    different = [
        Flow.tcp("10.0.0.3", 1, "10.0.0.2", 2, timeout=9, mark=3),
        Flow.tcp("10.0.0.1", 1, "10.0.0.2", 4, timeout=9, mark=3),
        Flow.tcp("10.0.0.1", 1, "10.0.0.2", 2, timeout=9, mark=4),
        Flow.tcp("10.0.0.1", 1, "10.0.0.2", 3, timeout=9, mark=2),
    ]
    assert len({digest(each) for each in (flow, *different)}) == 5


@pytest.mark.anyio
@pytest.mark.kernel
@pytest.mark.parametrize("per_client", [1, 10])
async def test_a_table_can_be_filled_in_steps(lab: Lab, conn: Connection, per_client: int) -> None:
    shapes = tables.tcp_shapes()
    lab.run(tables.fill, shapes, 0, 101, per_client)
    assert await conn.count() == 101
    lab.run(tables.fill, shapes, 101, 300, per_client)
    flows = await conn.list()
    assert len(flows) == (await observe(conn.dump())).count == 300
    assert len({flow.orig.src for flow in flows}) == 300 / per_client
    assert all(flow.reply == flow.orig.inverse for flow in flows)


@pytest.mark.kernel
def test_a_flow_that_the_kernel_refuses_is_reported(lab: Lab) -> None:
    lab.run(tables.fill, tables.tcp_shapes(), 0, 10)
    with pytest.raises(tables.NotFilled, match="from number 0 on: File exists"):
        lab.run(tables.fill, tables.tcp_shapes(), 0, 10)


@pytest.mark.parametrize(
    ("flows", "per_client"),
    [(50, 1), (150, 1), (1_000, 7), (100_000, 1), (400_000, 1), (1_000_000, 1)],
)
def test_there_are_3000_networks_and_one_client_in_a_hundred_is_in_them(
    flows: int, per_client: int
) -> None:
    nets = networks(flows // per_client)
    assert len({*nets}) == 3_000
    inside = flows_in(nets, flows, per_client)
    if flows <= 1_000:
        clients = [tables.FIRST_CLIENT + number // per_client for number in range(flows)]
        assert inside == sum(any(client in net for net in nets) for client in clients)
    else:
        assert inside == flows // 100


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("filtered", "expected", "receive_buffer", "message"),
    [
        (True, 3, 1 << 20, "expected 3 events that match; got 2"),
        (False, 3, 1 << 20, "expected 3 events that match; got 2"),
        (False, 2, 4096, "events were lost here"),
    ],
)
def test_a_listener_that_receives_too_few_events_is_reported(
    lab: Lab, filtered: bool, expected: int, receive_buffer: int, message: str
) -> None:
    with pytest.raises((Disagreement, EventsLost), match=message):
        lab.run(create_200_flows(filtered, expected, receive_buffer).run)


@pytest.mark.kernel
@pytest.mark.parametrize("filtered", [True, False])
def test_creating_flows_with_a_listener_is_timed(lab: Lab, filtered: bool) -> None:
    assert lab.run(create_200_flows(filtered, 2, 1 << 20).run).count == 200


def create_200_flows(filtered: bool, expected: int, receive_buffer: int) -> Contender:
    """Return a contender that creates 200 flows, of which two match."""
    match = Match(orig_dport=tables.RARE_PORT)
    listener = Listener(match, expected, receive_buffer, filtered)
    shapes = tables.shapes_one_in(100)
    return create_while_listening("create", listener, lambda: tables.fill(shapes, 0, 200), 200)


def test_a_function_in_another_process_returns_or_raises() -> None:
    assert isolation.run_in_process(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        isolation.run_in_process(divmod, 7, 0)
    with pytest.raises(isolation.ProcessDied, match="for exit ended with exit code 3"):
        isolation.run_in_process(sys.exit, 3)


@pytest.mark.parametrize("allowed", [True, False])
def test_nf_conntrack_max_is_restored(monkeypatch: pytest.MonkeyPatch, allowed: bool) -> None:
    settings = [1000]

    def write(_: str, value: int) -> None:
        if not allowed:
            raise PermissionError
        settings.append(value)

    monkeypatch.setattr(isolation, "room", lambda: settings[-1])
    monkeypatch.setattr(isolation, "set_sysctl", write)
    inside = 0
    with suppress(KeyboardInterrupt), isolation.room_for(2000):
        inside = isolation.room()
        raise KeyboardInterrupt
    assert inside == (2000 if allowed else 1000)
    assert settings == ([1000, 2000, 1000] if allowed else [1000])


def test_reports_have_a_row_for_each_line() -> None:
    line = Line("ours", Spread(1.234, 1.2, 1234.5), "µs", ratio=Spread(2.0, 1.5, 12.345))
    report = Report({"kernel": "6.18"}, {}, ["x is left out"], [Figure("f", "title", [line])])
    text, page = as_text(report), as_markdown(report)
    row = ["ours", "1.23 µs", "1.20 - 1,234", "2.00", "1.50 - 12.3", "", "", ""]
    assert f"| {' | '.join(row)} |" in page
    assert [cell for cell in row if cell] == [
        cell.strip() for cell in text.splitlines()[-1].split("  ") if cell.strip()
    ]
    assert "x is left out" in text
    assert "x is left out" in page


def test_the_largest_table_may_be_of_any_figure() -> None:
    assert Options(creates=3_000_000).largest_table == 3_000_000
