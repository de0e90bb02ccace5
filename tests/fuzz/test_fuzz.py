"""A little of the fuzzing, always the same: ``tests/fuzz/run.py`` does more of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from random import Random

import pytest
from support.effort import thorough_or_quick

from fuzz import socket_script, watch
from fuzz.campaign import BACKENDS, InputFailed, run_inputs
from fuzz.inputs import TARGETS, Target, mutations
from fuzz.large_inputs import LARGE_INPUTS
from fuzz.mutation import join, parse, split
from fuzz.past_failures import PAST_FAILURES
from fuzz.seeds import ALL_MESSAGES, DATAGRAMS
from fuzz.socket_script import Step, StepKind
from fuzz.watch import InputHangs, InputMonitor

SOME = thorough_or_quick(200, 100)
"""Inputs of a target, on each event loop."""


@pytest.fixture
def watching() -> Iterator[InputMonitor]:
    with InputMonitor() as watching:
        yield watching


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("backend", range(len(BACKENDS)), ids=["asyncio", "uvloop", "trio"])
def test_an_input_does_what_it_should(target: Target, backend: int, watching: InputMonitor) -> None:
    random = Random(f"{target.name} {backend}")
    known = random.sample(target.seeds, min(SOME // 2, len(target.seeds)))
    made = islice(mutations(target, random), SOME - len(known))
    assert run_inputs(target, chain(known, made), watching, backend) == SOME


@pytest.mark.parametrize(("name", "data"), [pytest.param(*f[1:], id=f[0]) for f in PAST_FAILURES])
def test_what_failed_once(name: str, data: bytes, watching: InputMonitor) -> None:
    for backend in range(len(BACKENDS)):
        run_inputs(TARGETS[name], iter([data]), watching, backend)


@pytest.mark.parametrize("name", sorted({name for name, _ in LARGE_INPUTS}))
def test_large_ones_take_no_longer_than_they_are(name: str, watching: InputMonitor) -> None:
    run_inputs(TARGETS[name], (data for target, data in LARGE_INPUTS if target == name), watching)


# The tools


def _with(run: object) -> Target:
    return Target("broken", run, lambda *_: b"", [], 1)  # type: ignore[arg-type]


def test_a_wrong_error_is_told_with_the_input(watching: InputMonitor) -> None:
    def run(data: bytes) -> None:
        if data == b"2":
            raise IndexError

    with pytest.raises(InputFailed) as caught:
        run_inputs(_with(run), iter([b"1", b"2", b"3"]), watching)
    assert (caught.value.target, caught.value.data) == ("broken", b"2")
    assert isinstance(caught.value.__cause__, IndexError)


def test_a_hang_is_told(watching: InputMonitor, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(data: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr(watch, "PATIENCE", 0.05)
    with pytest.raises(InputFailed) as caught:
        run_inputs(_with(run), iter([b""]), watching)
    assert isinstance(caught.value.__cause__, InputHangs)


def test_an_input_that_takes_long_is_told(
    watching: InputMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MOST", 0.0)
    with pytest.raises(InputFailed) as caught:
        run_inputs(_with(lambda data: None), iter([b""]), watching)
    assert "processor time" in str(caught.value.__cause__)


def test_an_error_that_nobody_saw_is_told(watching: InputMonitor) -> None:
    class Closing:
        def __del__(self) -> None:
            raise KeyError("lost")

    with pytest.raises(InputFailed) as caught:
        run_inputs(_with(lambda data: Closing() and None), iter([b""]), watching)
    assert "lost" in str(caught.value.__cause__)


def test_a_script_is_bytes_and_back() -> None:
    steps = [Step(what, bytes([what]) * what, to=what % 4) for what in StepKind]
    assert socket_script.unpack(socket_script.pack(steps, 7)) == (7, steps)
    assert socket_script.unpack(b"") == (0, [])


def test_messages_are_trees_and_back() -> None:
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
