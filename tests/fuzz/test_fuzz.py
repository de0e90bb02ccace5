"""A short, repeatable run of the fuzzer, and tests of its tools. See also ``tests/fuzz/run.py``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from random import Random

import pytest
from support.effort import thorough_or_quick

from fuzz import monitor, socket_script
from fuzz.campaign import BACKENDS, InputFailed, run_inputs
from fuzz.inputs import TARGETS, Target, mutations
from fuzz.large_inputs import LARGE_INPUTS
from fuzz.monitor import InputHangs, InputMonitor
from fuzz.mutation import join, parse, split
from fuzz.past_failures import PAST_FAILURES
from fuzz.seeds import ALL_MESSAGES, DATAGRAMS
from fuzz.socket_script import Step, StepKind

INPUT_COUNT = thorough_or_quick(200, 100)
"""The number of inputs of each target on each event loop."""


@pytest.fixture
def input_monitor() -> Iterator[InputMonitor]:
    with InputMonitor() as input_monitor:
        yield input_monitor


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("backend", range(len(BACKENDS)), ids=["asyncio", "uvloop", "trio"])
def test_inputs_break_no_rule(target: Target, backend: int, input_monitor: InputMonitor) -> None:
    random = Random(f"{target.name} {backend}")
    known = random.sample(target.seeds, min(INPUT_COUNT // 2, len(target.seeds)))
    mutated = islice(mutations(target, random), INPUT_COUNT - len(known))
    assert run_inputs(target, chain(known, mutated), input_monitor, backend) == INPUT_COUNT


@pytest.mark.parametrize(("name", "data"), [pytest.param(*f[1:], id=f[0]) for f in PAST_FAILURES])
def test_past_failures_break_no_rule(name: str, data: bytes, input_monitor: InputMonitor) -> None:
    for backend in range(len(BACKENDS)):
        run_inputs(TARGETS[name], iter([data]), input_monitor, backend)


@pytest.mark.parametrize("name", sorted({name for name, _ in LARGE_INPUTS}))
def test_large_inputs_take_linear_time(name: str, input_monitor: InputMonitor) -> None:
    run_inputs(
        TARGETS[name], (data for target, data in LARGE_INPUTS if target == name), input_monitor
    )


# -- tests of the fuzzer's tools -----------------------------------------------------------------


def _broken_target(run: object) -> Target:
    return Target("broken", run, lambda *_: b"", [], 1)  # type: ignore[arg-type]


def test_an_unexpected_error_is_reported_with_the_input(input_monitor: InputMonitor) -> None:
    def run(data: bytes) -> None:
        if data == b"2":
            raise IndexError

    with pytest.raises(InputFailed) as caught:
        run_inputs(_broken_target(run), iter([b"1", b"2", b"3"]), input_monitor)
    assert (caught.value.target, caught.value.data) == ("broken", b"2")
    assert isinstance(caught.value.__cause__, IndexError)


def test_a_hanging_input_is_reported(
    input_monitor: InputMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(data: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr(monitor, "HANG_TIMEOUT", 0.05)
    with pytest.raises(InputFailed) as caught:
        run_inputs(_broken_target(run), iter([b""]), input_monitor)
    assert isinstance(caught.value.__cause__, InputHangs)


def test_a_slow_input_is_reported(
    input_monitor: InputMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "MAX_PROCESSOR_TIME", 0.0)
    with pytest.raises(InputFailed) as caught:
        run_inputs(_broken_target(lambda data: None), iter([b""]), input_monitor)
    assert "processor time" in str(caught.value.__cause__)


def test_an_unraisable_error_is_reported(input_monitor: InputMonitor) -> None:
    class Closing:
        def __del__(self) -> None:
            raise KeyError("lost")

    with pytest.raises(InputFailed) as caught:
        run_inputs(_broken_target(lambda data: Closing() and None), iter([b""]), input_monitor)
    assert "lost" in str(caught.value.__cause__)


def test_a_script_can_be_packed_and_unpacked() -> None:
    steps = [Step(kind, bytes([kind]) * kind, to=kind % 4) for kind in StepKind]
    assert socket_script.unpack(socket_script.pack(steps, 7)) == (7, steps)
    assert socket_script.unpack(b"") == (0, [])


def test_messages_can_be_parsed_and_packed() -> None:
    for datagram in DATAGRAMS:
        assert join(split(datagram)) == datagram
    whole = 0
    for message in ALL_MESSAGES:
        nodes = parse(message[20:])
        if nodes:
            whole += 1
            packed = b"".join(node.pack() for node in nodes)
            assert len(packed) == len(message) - 20 + -len(message) % 4
    assert whole > len(ALL_MESSAGES) // 2
