"""What the benchmarks rest upon: fair turns, the same flows for all, and settings restored."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

import pytest
from support.lab import Lab

from benchmarks import isolation, tables
from benchmarks.contenders.matching import Audience, make_beside
from benchmarks.contenders.ours import digest, seen
from benchmarks.figures.filters import flows_in, networks
from benchmarks.options import Options
from benchmarks.report import Figure, Line, Report, as_markdown, as_text
from benchmarks.timing import (
    Contender,
    Disagreement,
    Seen,
    Spread,
    Timing,
    check,
    each_costs,
    in_turns,
    ratios,
)
from conntrack_aio import Connection, EventsLost, Flow, Match


def contender(
    name: str, seen: Seen | None = None, run: Callable[[], Timing] | None = None
) -> Contender:
    return Contender(
        name,
        run or (lambda: Timing(1.0, 1.0, 1)),
        None if seen is None else lambda: seen,
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


def test_figures_are_of_one_flow_and_ratios_of_one_turn() -> None:
    timings = {
        "floor": [Timing(1.0, 0.5, 1000), Timing(10.0, 0.5, 1000), Timing(1.0, 0.5, 1000)],
        "ours": [Timing(2.0, 0.5, 1000), Timing(20.0, 0.5, 1000), Timing(3.0, 0.5, 1000)],
    }
    assert each_costs(timings["ours"]) == Spread(3000.0, 2000.0, 20000.0)
    assert ratios(timings, "ours", "floor") == Spread(2.0, 2.0, 3.0)


def test_whoever_sees_other_flows_is_caught() -> None:
    check([contender("a", Seen(2)), contender("b", Seen(2, 7)), contender("c", Seen(2, 7))], 2)
    with pytest.raises(Disagreement, match=r"there are 3; seen were \{'a': 2\}"):
        check([contender("a", Seen(2))], 3)
    with pytest.raises(Disagreement, match="they saw different things"):
        check([contender("a", Seen(2, 7)), contender("b", Seen(2, 8))], 2)


def test_the_digest_tells_what_is_read_of_a_flow() -> None:
    flow = Flow.tcp("10.0.0.1", 1, "10.0.0.2", 2, timeout=9, mark=3)
    others = [
        Flow.tcp("10.0.0.3", 1, "10.0.0.2", 2, timeout=9, mark=3),
        Flow.tcp("10.0.0.1", 1, "10.0.0.2", 4, timeout=9, mark=3),
        Flow.tcp("10.0.0.1", 1, "10.0.0.2", 2, timeout=9, mark=4),
        Flow.tcp("10.0.0.1", 1, "10.0.0.2", 3, timeout=9, mark=2),
    ]
    assert len({digest(each) for each in (flow, *others)}) == 5


@pytest.mark.anyio
@pytest.mark.kernel
@pytest.mark.parametrize("per_client", [1, 10])
async def test_a_table_grows_to_any_size(lab: Lab, conn: Connection, per_client: int) -> None:
    shapes = tables.tcp_shapes()
    lab.run(tables.fill, shapes, 0, 101, per_client)
    assert await conn.count() == 101
    lab.run(tables.fill, shapes, 101, 300, per_client)
    flows = await conn.list()
    assert len(flows) == (await seen(conn.dump())).count == 300
    assert len({flow.orig.src for flow in flows}) == 300 / per_client
    assert all(flow.reply == flow.orig.inverse for flow in flows)


@pytest.mark.kernel
def test_a_flow_that_the_kernel_refuses_is_told(lab: Lab) -> None:
    lab.run(tables.fill, tables.tcp_shapes(), 0, 10)
    with pytest.raises(tables.Unfilled, match="from number 0 on: File exists"):
        lab.run(tables.fill, tables.tcp_shapes(), 0, 10)


@pytest.mark.parametrize(
    ("flows", "per_client"),
    [(50, 1), (150, 1), (1_000, 7), (100_000, 1), (400_000, 1), (1_000_000, 1)],
)
def test_networks_are_as_many_and_the_flows_in_them_are_known(flows: int, per_client: int) -> None:
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
    ("filtered", "expected", "room", "said"),
    [
        (True, 3, 1 << 20, "there are 3; heard of were 2"),
        (False, 3, 1 << 20, "there are 3; heard of were 2"),
        (False, 2, 4096, "events were lost here"),
    ],
)
def test_who_hears_of_too_few_is_caught(
    lab: Lab, filtered: bool, expected: int, room: int, said: str
) -> None:
    with pytest.raises((Disagreement, EventsLost), match=said):
        lab.run(beside_200(filtered, expected, room).run)


@pytest.mark.kernel
@pytest.mark.parametrize("filtered", [True, False])
def test_who_hears_of_all_is_timed(lab: Lab, filtered: bool) -> None:
    assert lab.run(beside_200(filtered, 2, 1 << 20).run).count == 200


def beside_200(filtered: bool, expected: int, receive_buffer: int) -> Contender:
    """Flows of which two are wanted."""
    wanted = Match(orig_dport=tables.RARE_PORT)
    audience = Audience(wanted, expected, receive_buffer, filtered)
    shapes = tables.shapes_one_in(100)
    return make_beside("beside", audience, lambda: tables.fill(shapes, 0, 200), 200)


def test_a_process_of_its_own_hands_back_what_comes_of_it() -> None:
    assert isolation.apart(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        isolation.apart(divmod, 7, 0)
    with pytest.raises(isolation.Died, match="exit died with exit code 3"):
        isolation.apart(sys.exit, 3)


@pytest.mark.parametrize("allowed", [True, False])
def test_the_machine_s_setting_is_restored(monkeypatch: pytest.MonkeyPatch, allowed: bool) -> None:
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
    row = ["ours", "1.23 µs", "1.20 - 1,234", "2.00", "1.50 - 12.3", "", ""]
    assert f"| {' | '.join(row)} |" in page
    assert [cell for cell in row if cell] == [
        cell.strip() for cell in text.splitlines()[-1].split("  ") if cell.strip()
    ]
    assert "x is left out" in text
    assert "x is left out" in page


def test_the_largest_table_is_what_room_is_made_for() -> None:
    assert Options(creates=3_000_000).most == 3_000_000
