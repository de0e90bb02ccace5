"""Packers against the reference: the same bytes of any values, and the same errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import flows
from support.attribute_encoding import with_values
from support.effort import GUEST_STRIDE, examples, thorough_or_quick
from support.model_strategies import objects

from conntrack_aio import (
    EncodeError,
    Flow,
    Helper,
    NATRange,
    SCTPInfo,
    SeqAdj,
    Status,
    TCPFlags,
    TCPInfo,
    TCPState,
    Tuple,
)
from conntrack_aio.codec import packers
from conntrack_aio.codec.packers import FREE, SHAPES, Packers, RequestValue, _ComputedBytes
from conntrack_aio.codec.requests import flows as requests
from conntrack_aio.codec.schema import schema_of
from conntrack_aio.netlink import messages

bounded = settings(deadline=None)

Make = Callable[..., bytes]


class Tried:
    """Packers of one kind, and how often they went to the reference."""

    def __init__(self, model: Packers) -> None:
        self.made = 0
        self.reference: Make = model._make
        self.packers = Packers(model._arguments, self._make, model._values)

    def _make(self, *arguments: object) -> bytes:
        self.made += 1
        return self.reference(*arguments)

    def pack(self, *arguments: Any, seq: int = 0) -> bytes:
        return self.packers.pack(requests._hint_of(arguments[0]), seq, *arguments)

    def check(self, *arguments: Any) -> bool:
        """That it does what the reference does, and whether that was to make a message."""
        made = attempt(lambda: self.reference(*arguments))
        assert attempt(lambda: self.pack(*arguments)) == made
        return isinstance(made, bytes)


def attempt(make: Callable[[], bytes]) -> object:
    """The message, or the error, so that it can be compared."""
    try:
        return make()
    except Exception as error:
        return type(error), str(error)


MODELS = {
    "create": (requests._CREATE, (None, None)),
    "delete": (requests._DELETE, (None,)),
    "get": (requests._GET, (None,)),
    "get and reset": (requests._RESET, (None,)),
}
BUSY = {name: Tried(model) for name, (model, _) in MODELS.items()}
"""Packers that have seen everything."""

by_kind = pytest.mark.parametrize("kind", MODELS)


def flow(number: int = 1, **others: Any) -> Flow:
    return attrs.evolve(flows.tcp(number), **others)


# What a request's value may be assigned, right or wrong
NASTY: list[Any] = [
    *(None, True, False, -1, 0, 1, 6, 14, 58, 255, 256, 65535, 65536, 1 << 32, (1 << 32) - 1),
    *(1 << 64, (1 << 128) - 1, 1 << 128, -(1 << 31), 1.0, float("nan"), "", "ftp", "x" * 99),
    *(b"", b"info", b"x" * 99, [], TCPState.TIME_WAIT, TCPState.NONE, Status.ASSURED, Status(0)),
    *(TCPFlags.BE_LIBERAL, IPv4Address("1.2.3.4"), IPv6Address("::1"), IPv6Address("fe80::1%a")),
    *(Helper(name="ftp"), Helper(name="ftp", info=b"1"), Helper(), SeqAdj(), TCPInfo()),
    SeqAdj(correction_pos=1, offset_before=-1, offset_after=2),
    TCPInfo(state=TCPState.CLOSE, wscale_orig=1, wscale_reply=2, flags_orig=TCPFlags(1)),
    TCPInfo(state=True, flags_reply=TCPFlags(0)),  # type: ignore[arg-type]
    SCTPInfo(state=3, vtag_orig=1, vtag_reply=2),
    *(Tuple.tcp("1.1.1.1", 1, "2.2.2.2", 2), Tuple.udp("::1", 1, "::2", 2, zone=3)),
]


def places(value: object, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The declared fields of an object, and of those inside of it."""
    for field in schema_of(type(value)).fields:
        yield (*prefix, field.name)
        inner = getattr(value, field.name)
        if inner is not None and any(leaf.nest is not None for leaf in field.leaves):
            yield from places(inner, (*prefix, field.name))


def changed(value: Any, path: tuple[str, ...], new: object) -> Any:
    """The same with another value in one place."""
    name, *rest = path
    inner = changed(getattr(value, name), tuple(rest), new) if rest else new
    return with_values(value, **{name: inner})


@st.composite
def creatable(draw: st.DrawFn) -> Flow:
    """Mostly flows that can be made."""
    made: Flow = draw(objects(Flow))
    made.reply = attrs.evolve(made.reply, zone=None)
    made.orig = attrs.evolve(made.orig, zone=None)
    if draw(st.booleans()):
        made.master = None
    if not isinstance(made.protoinfo, requests._PROTOINFO.get(made.orig.proto, ())):
        made.protoinfo = None
    made.timeout = made.timeout or draw(st.integers(0, 0xFFFFFFFF))
    return made


SAMPLES = {
    "tcp": flow(mark=1, status=Status.ASSURED, labels=1, id=7),
    "udp6": attrs.evolve(flows.udp6(), zone=3, helper=Helper(name="sip", info=b"x")),
    "icmp": Flow.icmp("10.0.0.1", "10.0.0.2", id=3, timeout=5),
    "expected": flow(
        master=flows.tcp(2).orig,
        seqadj_orig=SeqAdj(correction_pos=1, offset_before=-1, offset_after=1),
        protoinfo=TCPInfo(state=TCPState.CLOSE, wscale_orig=1, wscale_reply=2),
    ),
}


@by_kind
@pytest.mark.parametrize("sample", SAMPLES)
def test_every_change_in_every_place(kind: str, sample: str) -> None:
    model, rest = MODELS[kind]
    for path in [*places(SAMPLES[sample])][:: thorough_or_quick(2, 6) * GUEST_STRIDE]:
        fresh = Tried(model)
        assert fresh.check(SAMPLES[sample], *rest)
        for new in NASTY:
            other = changed(SAMPLES[sample], path, new)
            fresh.check(other, *rest)
            fresh.check(other, *rest)
            fresh.check(SAMPLES[sample], *rest)


@by_kind
@settings(bounded, max_examples=examples(20))
@given(data=st.data())
def test_any_change_of_any_flow(kind: str, data: st.DataObject) -> None:
    """A packer that was made for one is tried with what differs from it in a place or two."""
    model, rest = MODELS[kind]
    fresh = Tried(model)
    sample: Flow = data.draw(creatable() | st.sampled_from(list(SAMPLES.values())))
    made = fresh.check(sample, *rest)
    if made:
        fresh.check(sample, *rest)
    other = sample
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list(places(sample))))
        try:
            other = changed(other, path, data.draw(st.sampled_from(NASTY)))
        except (TypeError, AttributeError, attrs.exceptions.NotAnAttrsClassError):
            continue  # what was put there before has no such field
    fresh.check(other, *rest)
    fresh.check(other, *rest)
    fresh.check(sample, *rest)
    BUSY[kind].check(other, *rest)


@by_kind
@settings(bounded, max_examples=examples(12))
@given(data=st.data())
def test_any_two_flows(kind: str, data: st.DataObject) -> None:
    model, rest = MODELS[kind]
    fresh = Tried(model)
    first, second = data.draw(creatable()), data.draw(creatable())
    for each in (first, second, first, second):
        fresh.check(each, *rest)
        BUSY[kind].check(each, *rest)


@pytest.mark.parametrize("kind", ["delete", "get"])
@settings(bounded, max_examples=examples(12))
@given(
    target=objects(Tuple) | creatable(),
    other=objects(Tuple) | creatable() | st.sampled_from(NASTY),
    zones=st.tuples(*[st.sampled_from([None, 0, 7, True, 1 << 16, "4"])] * 2),
)
def test_targets_and_zones(kind: str, target: Any, other: Any, zones: tuple[Any, Any]) -> None:
    fresh = Tried(MODELS[kind][0])
    for each in (target, other, target, other):
        for zone in zones:
            fresh.check(each, zone)
            BUSY[kind].check(each, zone)


@settings(bounded, max_examples=examples(12))
@given(creatable(), st.none() | objects(NATRange), st.none() | objects(NATRange))
def test_translations(sample: Flow, src: NATRange | None, dst: NATRange | None) -> None:
    """What is compared with something else, the reference sees to each time."""
    sample.reply = attrs.evolve(sample.orig, src=sample.orig.dst, dst=sample.orig.src)
    fresh = Tried(requests._CREATE)
    for _ in range(2):
        fresh.check(sample, src, dst)
        fresh.check(sample, None, None)


@pytest.mark.parametrize("wrong", NASTY, ids=repr)
def test_what_is_no_flow(wrong: object) -> None:
    fresh = Tried(requests._CREATE)
    fresh.check(flow(), None, None)
    fresh.check(wrong, None, None)
    fresh.check(flow(), wrong, None)


@settings(bounded, max_examples=examples(12))
@given(
    target=objects(Tuple) | creatable() | st.sampled_from(NASTY),
    other=objects(Tuple) | creatable(),
    zone=st.sampled_from([None, 0, 7, "4"]),
    values=st.sampled_from(
        [
            {"mark": 7, "mark_mask": 15},
            {"protoinfo": TCPInfo(state=3)},
            {"helper": Helper(name="a")},
        ]
    ),
)
def test_updates_of_many(target: Any, other: Any, zone: Any, values: dict[str, object]) -> None:
    encode = requests.update_of_many(values, zone)
    for each in (target, other, target, other):
        assert attempt(lambda each=each: encode(each)) == attempt(  # type: ignore[misc]
            lambda each=each: requests.update(each, values, zone)  # type: ignore[misc]
        )


# -- what it is for -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "made",
    [
        flow,
        lambda number: flow(number, mark=number, labels=1 << number, timeout=number),
        lambda number: flow(number, status=Status.ASSURED, zone=number),
        lambda number: flow(number, helper=Helper(name="ftp")),
        lambda number: flow(number, master=flows.tcp(number + 1).orig),
        lambda number: flow(number, seqadj_orig=SeqAdj(**SEQADJ)),
        lambda number: attrs.evolve(flows.udp6(number), id=number, use=3),
        lambda number: Flow.icmp("10.0.0.1", "10.0.0.2", id=number, timeout=5),
        lambda number: flow(number, orig=Tuple.udp("10.0.0.1", number, "10.0.0.2", 2), **UDP),
    ],
    ids=["tcp", "labels", "status", "helper", "master", "seqadj", "udp6", "icmp", "udp"],
)
@by_kind
def test_of_one_shape_the_reference_makes_one(kind: str, made: Callable[[int], Flow]) -> None:
    model, rest = MODELS[kind]
    fresh = Tried(model)
    for number in range(1, 60):
        message = fresh.pack(made(number), *rest, seq=number)
        assert messages.HEADER.unpack_from(message)[3] == number
        assert message[12:] == fresh.reference(made(number), *rest)[12:]
    # The first, and once more for each part that it remembers.
    assert fresh.made <= 3
    assert fresh.packers.compiled == 1


SEQADJ = {"correction_pos": 1, "offset_before": -2, "offset_after": 3}
UDP = {"reply": Tuple.udp("10.0.0.2", 2, "10.0.0.1", 1), "protoinfo": None}


def test_what_is_made_of_something_is_learned_once() -> None:
    """The states of TCP, whose flags depend on them, and the status."""
    fresh = Tried(requests._CREATE)
    infos = [TCPInfo(state=TCPState(state)) for state in range(9)]
    for _ in range(3):
        for number, info in enumerate(infos):
            assert fresh.check(flow(number, protoinfo=info), None, None)
    assert fresh.made == 1 + 9
    assert fresh.packers.compiled == 1


def test_an_error_names_its_place() -> None:
    fresh = Tried(requests._CREATE)
    fresh.pack(flow(mark=1), None, None)
    with pytest.raises(EncodeError, match=r"mark: .*not in the range"):
        fresh.pack(flow(mark=1 << 32), None, None)
    with pytest.raises(EncodeError, match="mark: '1' is not an integer"):
        fresh.pack(flow(mark="1"), None, None)
    with pytest.raises(EncodeError, match="orig/sport"):
        fresh.pack(changed(flow(mark=1), ("orig", "sport"), 1 << 16), None, None)


@pytest.mark.long
def test_variety_is_bounded() -> None:
    """Shapes without end are not compiled without end, and take no memory without end."""
    fresh = Tried(requests._CREATE)
    kinds = 0
    for shape in range(1 << 12):
        sample = flow()
        if shape & 1:
            sample.mark = 1
        if shape & 2:
            sample.labels = 1
        if shape & 4:
            sample.zone = 1
        # Each length of a name is a shape of its own.
        sample.helper = Helper(name="x" * (shape >> 3 & 15), info=b"x" * (shape >> 7))
        if len(sample.helper.name or "") < 16 and len(sample.helper.info or b"") <= 32:
            kinds += fresh.check(sample, None, None)
    assert kinds > 20 * FREE
    assert fresh.packers.compiled <= FREE + kinds // FREE + 1
    assert sum(map(len, fresh.packers._packers.values())) <= SHAPES


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packers, "_REMEMBERED", 8)
    fresh = Tried(requests._CREATE)
    names = [chr(ord("a") + number) for number in range(26)]
    for name in names * 3:
        fresh.check(flow(helper=Helper(name=name)), None, None)
        assert all(len(known) <= 8 for known in remembered(fresh.packers))
    assert fresh.packers.compiled == 1
    assert any(remembered(fresh.packers))


def remembered(packers: Packers) -> list[dict[object, bytes]]:
    """What the packers' generated functions look bytes up in."""
    found: list[dict[object, bytes]] = []
    for packer in (each for alike in packers._packers.values() for each in alike):
        constants = packer.__globals__.values()  # type: ignore[attr-defined]
        memories = [each.__self__ for each in constants if hasattr(each, "__self__")]
        found += [each.memo for each in memories if isinstance(each, _ComputedBytes)]
    return found


def test_a_shape_that_the_values_do_not_explain_is_not_packed() -> None:
    """A value that was forgotten is noticed: what is packed must be what the reference made."""

    def make(sample: Flow) -> bytes:
        return requests._make_create(sample, None, None)

    def values(sample: Flow) -> list[RequestValue]:
        return [RequestValue("sample.status", sample.status, Flow, "status")]

    forgetful = Packers(("sample",), make, values)
    sample = flow(status=Status.ASSURED)
    for _ in range(3):
        assert forgetful.pack(None, 0, sample) == make(sample)
    assert forgetful._packers == {}
