"""Packers give the same bytes and the same errors as the reference, for any values."""

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
from conntrack_aio.codec import packer_writer
from conntrack_aio.codec.packed_requests import RequestValue
from conntrack_aio.codec.packer_writer import _ComputedBytes
from conntrack_aio.codec.packers import (
    COMPILED_IMMEDIATELY,
    PACKERS_PER_SHAPE_KEY,
    Packers,
)
from conntrack_aio.codec.requests import flows as requests
from conntrack_aio.codec.schema import schema_of
from conntrack_aio.model.protoinfo import PROTOINFO_TYPES
from conntrack_aio.netlink import messages

bounded = settings(deadline=None)

Make = Callable[..., bytes]


class CountedPackers:
    """Packers of one kind of request, which count the calls of the reference."""

    def __init__(self, packers_: Packers) -> None:
        self.created = 0
        self.reference: Make = packers_._make
        self.packers = Packers(packers_._arguments, self._make, packers_._values)

    def _make(self, *arguments: object) -> bytes:
        self.created += 1
        return self.reference(*arguments)

    def pack(self, *arguments: Any, seq: int = 0) -> bytes:
        if self.packers._arguments == requests._CREATE._arguments:
            key = requests._creation_key(*arguments)
        else:
            key = requests._shape_key(arguments[0])
        return self.packers.pack(key, seq, *arguments)

    def check(self, *arguments: Any) -> bool:
        """Compare with the reference; return whether it gives a message and not an error."""
        created = attempt(lambda: self.reference(*arguments))
        assert attempt(lambda: self.pack(*arguments)) == created
        return isinstance(created, bytes)


def attempt(make: Callable[[], bytes]) -> object:
    """Return the message or, so that it can be compared, the error."""
    try:
        return make()
    except Exception as error:
        return type(error), str(error)


KINDS = {
    "create": (requests._CREATE, (None, None)),
    "delete": (requests._DELETE, (None,)),
    "get": (requests._GET, (None,)),
    "get and reset": (requests._RESET, (None,)),
}
BUSY = {name: CountedPackers(packers_) for name, (packers_, _) in KINDS.items()}
"""Packers that all tests use, so that they have many shapes."""

by_kind = pytest.mark.parametrize("kind", KINDS)


def flow(number: int = 1, **others: Any) -> Flow:
    return attrs.evolve(flows.tcp(number), **others)


# Valid and invalid values to assign to the fields of a flow
VALUES: list[Any] = [
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
    """Yield the paths of the declared fields of an object and of the objects inside it."""
    for field in schema_of(type(value)).fields:
        yield (*prefix, field.name)
        inner = getattr(value, field.name)
        if inner is not None and any(leaf.nest is not None for leaf in field.leaves):
            yield from places(inner, (*prefix, field.name))


def changed(value: Any, path: tuple[str, ...], new: object) -> Any:
    """Return a copy with another value in one field."""
    name, *rest = path
    inner = changed(getattr(value, name), tuple(rest), new) if rest else new
    return with_values(value, **{name: inner})


@st.composite
def creatable(draw: st.DrawFn) -> Flow:
    """Mostly flows that can be created."""
    created: Flow = draw(objects(Flow))
    created.reply = attrs.evolve(created.reply, zone=None)
    created.orig = attrs.evolve(created.orig, zone=None)
    if draw(st.booleans()):
        created.master = None
    if not isinstance(created.protoinfo, PROTOINFO_TYPES.get(created.orig.proto, ())):
        created.protoinfo = None
    created.timeout = created.timeout or draw(st.integers(0, 0xFFFFFFFF))
    return created


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
def test_any_value_in_any_field_gives_what_the_reference_gives(kind: str, sample: str) -> None:
    packers_, rest = KINDS[kind]
    for path in [*places(SAMPLES[sample])][:: thorough_or_quick(2, 6) * GUEST_STRIDE]:
        counted = CountedPackers(packers_)
        assert counted.check(SAMPLES[sample], *rest)
        for new in VALUES:
            other = changed(SAMPLES[sample], path, new)
            counted.check(other, *rest)
            counted.check(other, *rest)
            counted.check(SAMPLES[sample], *rest)


@by_kind
@settings(bounded, max_examples=examples(20))
@given(data=st.data())
def test_any_changed_flow_gives_what_the_reference_gives(kind: str, data: st.DataObject) -> None:
    """A packer for one flow is used for a flow that differs in a few fields."""
    packers_, rest = KINDS[kind]
    counted = CountedPackers(packers_)
    sample: Flow = data.draw(creatable() | st.sampled_from(list(SAMPLES.values())))
    created = counted.check(sample, *rest)
    if created:
        counted.check(sample, *rest)
    other = sample
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list(places(sample))))
        try:
            other = changed(other, path, data.draw(st.sampled_from(VALUES)))
        except (TypeError, AttributeError, attrs.exceptions.NotAnAttrsClassError):
            continue  # the value that was assigned before has no such field
    counted.check(other, *rest)
    counted.check(other, *rest)
    counted.check(sample, *rest)
    BUSY[kind].check(other, *rest)


@by_kind
@settings(bounded, max_examples=examples(12))
@given(data=st.data())
def test_any_two_flows_give_what_the_reference_gives(kind: str, data: st.DataObject) -> None:
    packers_, rest = KINDS[kind]
    counted = CountedPackers(packers_)
    first, second = data.draw(creatable()), data.draw(creatable())
    for each in (first, second, first, second):
        counted.check(each, *rest)
        BUSY[kind].check(each, *rest)


@pytest.mark.parametrize("kind", ["delete", "get"])
@settings(bounded, max_examples=examples(12))
@given(
    target=objects(Tuple) | creatable(),
    other=objects(Tuple) | creatable() | st.sampled_from(VALUES),
    zones=st.tuples(*[st.sampled_from([None, 0, 7, True, 1 << 16, "4"])] * 2),
)
def test_any_target_and_zone_gives_what_the_reference_gives(
    kind: str, target: Any, other: Any, zones: tuple[Any, Any]
) -> None:
    counted = CountedPackers(KINDS[kind][0])
    for each in (target, other, target, other):
        for zone in zones:
            counted.check(each, zone)
            BUSY[kind].check(each, zone)


@settings(bounded, max_examples=examples(12))
@given(creatable(), st.none() | objects(NATRange), st.none() | objects(NATRange))
def test_any_nat_range_gives_what_the_reference_gives(
    sample: Flow, src: NATRange | None, dst: NATRange | None
) -> None:
    sample.reply = attrs.evolve(sample.orig, src=sample.orig.dst, dst=sample.orig.src)
    counted = CountedPackers(requests._CREATE)
    for _ in range(2):
        counted.check(sample, src, dst)
        counted.check(sample, None, None)


RANGES = [
    NATRange.of("192.0.2.1"),
    NATRange.of("192.0.2.2", 4000),
    NATRange.of(port=5),
    NATRange.of("2001:db8::1", 4000),
    NATRange(address_min=IPv4Address("192.0.2.1"), address_max=IPv4Address("192.0.2.9")),
    NATRange(port_min=5, port_max=4),
    NATRange(),
    "192.0.2.7",
    None,
]


@pytest.mark.parametrize("first", RANGES, ids=str)
@pytest.mark.parametrize("second", RANGES, ids=str)
def test_any_two_translations_give_what_the_reference_gives(first: Any, second: Any) -> None:
    """A flow that is translated already is refused, also after others of its shape were packed."""
    counted = CountedPackers(requests._CREATE)
    untranslated = flow(labels=1)
    translated = attrs.evolve(untranslated, reply=Tuple.tcp("10.2.0.1", 80, "192.0.2.1", 40000))
    for ranges in ((first, None), (None, first), (first, second), (second, first)):
        for each in (untranslated, flow(2, labels=3), translated, untranslated):
            counted.check(each, *ranges)


def test_flows_with_translations_of_one_shape_are_packed() -> None:
    counted = CountedPackers(requests._CREATE)
    for number in range(1, 9):
        counted.pack(flow(number), NATRange.of(f"192.0.2.{number}", number), None)
    assert counted.created == 2  # for the first, and once more for the bytes that are computed


@pytest.mark.parametrize("wrong", VALUES, ids=repr)
def test_other_types_are_refused_as_the_reference_does(wrong: object) -> None:
    counted = CountedPackers(requests._CREATE)
    counted.check(flow(), None, None)
    counted.check(wrong, None, None)
    counted.check(flow(), wrong, None)


@settings(bounded, max_examples=examples(12))
@given(
    target=objects(Tuple) | creatable() | st.sampled_from(VALUES),
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
def test_updates_of_many_flows_give_what_single_updates_give(
    target: Any, other: Any, zone: Any, values: dict[str, object]
) -> None:
    encode = requests.update_of_many(values, zone)
    for each in (target, other, target, other):
        assert attempt(lambda each=each: encode(each)) == attempt(  # type: ignore[misc]
            lambda each=each: requests.update(each, values, zone)  # type: ignore[misc]
        )


# -- calls of the reference ----------------------------------------------------------------


@pytest.mark.parametrize(
    "created",
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
def test_the_reference_writes_only_the_first_requests_of_a_shape(
    kind: str, created: Callable[[int], Flow]
) -> None:
    packers_, rest = KINDS[kind]
    counted = CountedPackers(packers_)
    for number in range(1, 60):
        message = counted.pack(created(number), *rest, seq=number)
        assert messages.HEADER.unpack_from(message)[3] == number
        assert message[12:] == counted.reference(created(number), *rest)[12:]
    # One for the first request, and one for each computed value.
    assert counted.created <= 3
    assert counted.packers.compilations == 1


SEQADJ = {"correction_pos": 1, "offset_before": -2, "offset_after": 3}
UDP = {"reply": Tuple.udp("10.0.0.2", 2, "10.0.0.1", 1), "protoinfo": None}


def test_computed_values_are_computed_once() -> None:
    """The flags of TCP depend on its state, so they are computed once for each state."""
    counted = CountedPackers(requests._CREATE)
    infos = [TCPInfo(state=TCPState(state)) for state in range(9)]
    for _ in range(3):
        for number, info in enumerate(infos):
            assert counted.check(flow(number, protoinfo=info), None, None)
    assert counted.created == 1 + 9
    assert counted.packers.compilations == 1


def test_an_error_names_the_field() -> None:
    counted = CountedPackers(requests._CREATE)
    counted.pack(flow(mark=1), None, None)
    with pytest.raises(EncodeError, match=r"mark: .*not in the range"):
        counted.pack(flow(mark=1 << 32), None, None)
    with pytest.raises(EncodeError, match="mark: '1' is not an integer"):
        counted.pack(flow(mark="1"), None, None)
    with pytest.raises(EncodeError, match="orig/sport"):
        counted.pack(changed(flow(mark=1), ("orig", "sport"), 1 << 16), None, None)


@pytest.mark.long
def test_compiled_shapes_are_bounded() -> None:
    """Only a part of the shapes is compiled, and the memory for them is bounded."""
    counted = CountedPackers(requests._CREATE)
    kinds = 0
    for shape in range(1 << 12):
        sample = flow()
        if shape & 1:
            sample.mark = 1
        if shape & 2:
            sample.labels = 1
        if shape & 4:
            sample.zone = 1
        # Each length of a name is another shape.
        sample.helper = Helper(name="x" * (shape >> 3 & 15), info=b"x" * (shape >> 7))
        if len(sample.helper.name or "") < 16 and len(sample.helper.info or b"") <= 32:
            kinds += counted.check(sample, None, None)
    assert kinds > 20 * COMPILED_IMMEDIATELY
    assert counted.packers.compilations <= COMPILED_IMMEDIATELY + kinds // COMPILED_IMMEDIATELY + 1
    assert sum(map(len, counted.packers._packers.values())) <= PACKERS_PER_SHAPE_KEY


def test_memos_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packer_writer, "_MEMO_LIMIT", 8)
    counted = CountedPackers(requests._CREATE)
    names = [chr(ord("a") + number) for number in range(26)]
    for name in names * 3:
        counted.check(flow(helper=Helper(name=name)), None, None)
        assert all(len(memo) <= 8 for memo in memos_of(counted.packers))
    assert counted.packers.compilations == 1
    assert any(memos_of(counted.packers))


def memos_of(packers: Packers) -> list[dict[object, bytes]]:
    """Return the memos of computed bytes that the generated functions use."""
    found: list[dict[object, bytes]] = []
    for packer in (each for of_hint in packers._packers.values() for each in of_hint):
        constants = packer.__globals__.values()  # type: ignore[attr-defined]
        owners = [each.__self__ for each in constants if hasattr(each, "__self__")]
        found += [each.memo for each in owners if isinstance(each, _ComputedBytes)]
    return found


def test_a_packer_that_gives_other_bytes_than_the_reference_is_dropped() -> None:
    """The packer has too few values, so it gives other bytes than the reference."""

    def make(sample: Flow) -> bytes:
        return requests._make_create(sample, None, None)

    def values(sample: Flow) -> list[RequestValue]:
        return [RequestValue("sample.status", sample.status, Flow, "status")]

    incomplete = Packers(("sample",), make, values)
    sample = flow(status=Status.ASSURED)
    for _ in range(3):
        assert incomplete.pack(None, 0, sample) == make(sample)
    assert incomplete._packers == {}
