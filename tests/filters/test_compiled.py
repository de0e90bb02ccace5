"""Compiling a match: results are cached and bounded, threads are used, time is near linear."""

from __future__ import annotations

import gc
import itertools
import linecache
import operator
import threading
import time
from collections.abc import Callable
from functools import reduce

import anyio
import anyio.to_thread
import pytest

from conntrack_aio import EventType, Flow, Match
from conntrack_aio.filters import compiled as module
from conntrack_aio.filters.compiled import LARGE, CompiledMatch
from conntrack_aio.filters.dump import DumpFeatures, compile_dump_filter
from conntrack_aio.filters.nodes import Node
from conntrack_aio.filters.predicate import Predicate, compile_predicate
from conntrack_aio.filters.program import ProgramCompiler
from conntrack_aio.testing import FakeKernel


def pairs(count: int) -> list[Match]:
    return [Match(orig_src=f"10.{n >> 8}.{n & 255}.1", orig_dport=n) for n in range(count)]


def services(count: int) -> Match:
    """Return alternatives of an address, a port, and the exclusion of two reply addresses."""
    return Match.any(
        Match(
            proto="udp", orig_dst=f"198.{51 + n // 25000}.{n // 250 % 100}.{n % 250}", orig_dport=53
        )
        & ~Match(reply_src=["10.9.0.1", f"10.9.{n >> 8}.{n & 255}"])
        for n in range(count)
    )


# -- the cache ----------------------------------------------------------------------------------


def test_each_result_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def count(name: str) -> None:
        before = getattr(module, name)

        def call(*args: object) -> object:
            calls.append(name)
            return before(*args)

        monkeypatch.setattr(module, name, call)

    for name in ("compile_dump_filter", "requirements_of", "compile_predicate", "is_always_true"):
        count(name)
    match = Match(proto="tcp", orig_dport=[80, 443])
    flow = Flow.tcp("10.0.0.1", 1, "10.0.0.2", 80, timeout=60)

    async def use() -> None:
        async with FakeKernel(flows=[flow]).connect() as conn:
            for _ in range(3):
                assert len(await conn.list(match)) == await conn.count(match) == 1
                assert not match.always
                conn.events(match=match).close()
                async with conn.table(match) as table:
                    assert len(table) == 1
                await match.explain(conn)
                await match.prepare()

    anyio.run(use)
    assert sorted(calls) == sorted(set(calls))
    assert len(calls) == 4


def test_a_table_does_not_compile_a_prepared_match_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    match = services(500)

    async def use() -> None:
        await match.prepare()
        with monkeypatch.context() as patched:
            for name in ("is_always_true", "_is_constant", "compile_predicate"):
                patched.setattr(module, name, None)
            async with FakeKernel().connect() as conn:
                for _ in range(2):
                    async with conn.table(match) as table:
                        assert len(table) == 0
                assert await conn.delete_matching(match) == 0

    anyio.run(use)
    for text, constant in (("orig.dport 80", True), ("not (zone 1 or mark 1)", False)):
        assert Match.parse(text)._compiled.constant is constant


def test_the_cache_is_bounded() -> None:
    match = Match(proto="tcp", orig_dport=[80, 443], zone=3)
    for supported in itertools.product((False, True), repeat=len(DumpFeatures._fields)):
        features = DumpFeatures(*supported)
        found = match._compiled.dump_filter(features)
        assert found == compile_dump_filter(match._node, features)
        assert match._compiled.dump_filter(features) is found
    match._compiled.dump_filter()
    assert len(match._compiled._dump_filters) == 16
    for _ in range(3):
        for constant in (False, True):
            programs = list(match._compiled.programs(constant_only=constant))
            assert programs[0] == CompiledMatch(match._node).program(constant_only=constant)
            assert len(programs) == 4
    assert len(match._compiled._programs) == 8


def test_the_cache_of_a_deleted_match_is_freed() -> None:
    """Its predicate is freed, and so are the sources that tracebacks show."""
    gc.collect()
    before = len(linecache.cache)
    match = services(50)
    assert not match(Flow.tcp("10.0.0.1", 1, "10.0.0.2", 80, timeout=60))
    assert before < len(linecache.cache) <= before + 4  # matches of one form share a source
    del match
    gc.collect()
    assert len(linecache.cache) == before


# -- threads ------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_large_match_is_compiled_on_a_worker_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: dict[str, set[threading.Thread]] = {}

    def record(name: str) -> None:
        before = getattr(module, name)

        def call(*args: object) -> object:
            threads.setdefault(name, set()).add(threading.current_thread())
            return before(*args)

        monkeypatch.setattr(module, name, call)

    for name in ("compile_dump_filter", "requirements_of", "compile_predicate"):
        record(name)
    compile_ = ProgramCompiler.compile

    def compiled(self: ProgramCompiler, *, constant_only: bool, limit: int) -> object:
        threads.setdefault("programs", set()).add(threading.current_thread())
        return compile_(self, constant_only=constant_only, limit=limit)

    monkeypatch.setattr(ProgramCompiler, "compile", compiled)
    flow = Flow.udp("10.0.0.1", 1, "198.51.0.7", 53, timeout=60)
    async with FakeKernel(flows=[flow]).connect() as conn:
        conn.dump(services(LARGE)).close()
        assert not threads  # an iterator that is not used compiles nothing
        uses: list[Callable[[Match], object]] = [
            conn.list,
            conn.count,
            lambda match: conn.list(match, reset_counters=True),
            lambda match: anext(conn.dump(match)),
            lambda match: match.explain(conn),
            lambda match: match.prepare(),
            conn.delete_matching,
        ]
        for use in uses:
            await use(services(LARGE))  # type: ignore[misc]
        async with conn.table(services(LARGE)) as table:
            assert len(table) == 0
        match = await services(LARGE).prepare()
        conn.events(EventType.NEW, match=match).close()
        async for _ in conn.dying(services(LARGE)):
            raise AssertionError
    assert threads.keys() == {
        "compile_dump_filter",
        "requirements_of",
        "compile_predicate",
        "programs",
    }
    assert threading.current_thread() not in set().union(*threads.values())
    threads.clear()
    async with FakeKernel(flows=[flow]).connect() as conn:
        await conn.list(services(2))
    assert set().union(*threads.values()) == {threading.current_thread()}


def test_two_matches_can_be_compiled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They share no lock."""
    started, proceed = threading.Event(), threading.Event()
    before = module.compile_predicate

    def slowly(node: Node) -> Predicate:
        started.set()
        assert proceed.wait(10)
        return before(node)

    monkeypatch.setattr(module, "compile_predicate", slowly)
    thread = threading.Thread(target=lambda: Match(zone=1).predicate)
    thread.start()
    assert started.wait(10)
    monkeypatch.undo()
    other = Match(zone=2)
    done = threading.Thread(target=lambda: other.predicate)
    done.start()
    done.join(5)
    assert not done.is_alive()
    proceed.set()
    thread.join()


@pytest.mark.anyio
async def test_a_large_match_is_compiled_even_if_no_thread_can_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refused(*args: object, **kwargs: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(anyio.to_thread, "run_sync", refused)
    assert await services(LARGE)._compiled.compute(lambda: 5) == 5


# -- time ---------------------------------------------------------------------------------------


def shortest_time(work: Callable[[], object]) -> float:
    """Return the least processor time of this thread in three runs, in seconds."""
    times: list[float] = []
    for _ in range(3):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return min(times)


RANGES = [Match(orig_src=f"10.{n >> 8}.{n & 255}.1-10.{n >> 8}.{n & 255}.9") for n in range(2000)]
PAIRS = pairs(2000)
MIXED = [match for both in zip(RANGES[:1000], PAIRS[:1000], strict=True) for match in both]
JOINS: dict[str, Callable[[list[Match]], Match]] = {
    "or": lambda found: reduce(operator.or_, found),
    "or, reversed": lambda found: reduce(lambda one, other: other | one, found),
    "and not": lambda found: reduce(lambda one, other: one & ~other, found, Match()),
    "and not, reversed": lambda found: reduce(lambda one, other: ~other & one, found, Match()),
    "or not": lambda found: reduce(lambda one, other: one | ~other, found, Match(zone=1)),
    "any": Match.any,
    "all": lambda found: Match.all(~each for each in found),
}


@pytest.mark.parametrize("join", JOINS)
@pytest.mark.parametrize("given", [RANGES, PAIRS, MIXED], ids=["ranges", "pairs", "mixed"])
def test_joining_two_thousand_matches_takes_under_half_a_second(
    join: str, given: list[Match]
) -> None:
    """The goal is a quarter of a second. An algorithm that compares all pairs takes 6 seconds."""
    assert shortest_time(lambda: JOINS[join](given)) < 0.5


@pytest.mark.parametrize("join", JOINS)
@pytest.mark.parametrize("given", [RANGES, PAIRS, MIXED], ids=["ranges", "pairs", "mixed"])
def test_joined_matches_match_the_same_flows(join: str, given: list[Match]) -> None:
    joined = JOINS[join](given[:60])
    flows = [
        Flow.udp(f"10.0.{n}.{host}", 1, "10.0.0.2", n, timeout=1)
        for n in (0, 7, 29, 59, 99)
        for host in (1, 5, 77)
    ]
    for flow in flows:
        found = [match(flow) for match in given[:60]]
        expected = {
            "and not": not any(found),
            "and not, reversed": not any(found),
            "all": not any(found),
            "or not": not all(found),
        }.get(join, any(found))
        assert joined(flow) is expected


def test_a_match_of_many_services_takes_a_dictionary_look_up() -> None:
    """The goal is 10 µs for each flow. Comparing each service would take 300 µs and more."""
    flows = [Flow.udp("10.0.0.1", 1, f"198.51.7.{n}", 53, timeout=1) for n in range(200)]
    for count in (1000, 5000):
        match_any = services(count)
        for match in (match_any, ~match_any, match_any & ~Match(zone=7)):
            start = time.thread_time()
            predicate = compile_predicate(match._node)
            assert time.thread_time() - start < 1

            def match_all(predicate: Predicate = predicate) -> None:
                for flow in flows:
                    predicate(flow)

            assert shortest_time(match_all) < len(flows) * 10e-6


def test_look_ups_with_no_further_condition_and_with_several() -> None:
    ports = range(9)
    match = Match.any(
        [
            *(Match(orig_dst="10.0.0.2", orig_dport=n) for n in ports),
            *(Match(orig_dst="10.0.0.2", orig_dport=n, zone=n) for n in ports),
            *(Match(orig_dst="10.0.0.3", orig_dport=n, timeout=[1, 2 * n + 5]) for n in ports),
            *(Match(orig_dst="10.0.0.3", orig_dport=n) & ~Match(mark=n) for n in ports),
        ]
    )
    for n in range(10):
        assert match(Flow.udp("10.0.0.1", 1, "10.0.0.2", n, timeout=9)) is (n < 9)
        for mark, timeout in itertools.product((n, n + 1), (1, 2 * n + 5, 99)):
            flow = Flow.udp("10.0.0.1", 1, "10.0.0.3", n, timeout=timeout, mark=mark)
            assert match(flow) is (n < 9 and (mark != n or timeout != 99))


def test_no_program_between_two_that_are_too_long_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits: list[int | None] = []
    before = ProgramCompiler._try

    def recorded(
        self: ProgramCompiler, node: object, max_ranges: int | None, **kwargs: object
    ) -> object:
        limits.append(max_ranges)
        return before(self, node, max_ranges, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(ProgramCompiler, "_try", recorded)
    assert Match.any(pairs(3000))._compiled.program() is not None
    assert limits == [
        None,
        1,
        None,
    ]  # the alternatives, without a limit and with 1; then the union by field
