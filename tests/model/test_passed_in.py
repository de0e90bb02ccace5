"""Values that a program passes in are converted to plain objects, in fields and in requests."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from typing import Any

import attrs
import pytest
from support.attribute_encoding import with_values
from support.hostile_arguments import (
    INTEGERS,
    OverriddenBytes,
    OverriddenIPv4,
    OverriddenIPv6,
    OverriddenStr,
    RaisingObject,
    enum_member,
)
from support.model_strategies import declared_classes as message_classes

from conntrack_aio import (
    Counters,
    EncodeError,
    EventType,
    Expectation,
    ExpectEvent,
    ExpectNAT,
    Flow,
    FlowEvent,
    Helper,
    NATRange,
    SeqAdj,
    Status,
    TCPInfo,
    TCPState,
    Tuple,
    UnknownAttribute,
)
from conntrack_aio.codec.reference import encode, encode_fields
from conntrack_aio.codec.requests import flows as requests
from conntrack_aio.codec.schema import schema_of
from conntrack_aio.model.normalization import raw
from conntrack_aio.model.wire import Address, Bitmap, Bytes, Integer, MaskedFlags, Text
from conntrack_aio.plain import as_address, as_bytes, as_int, as_str, describe_value

CLASSES = [cls for cls in message_classes() if cls is not Tuple]


def scalar_fields() -> Iterator[Any]:
    """Yield every field of the model whose value is in a single attribute."""
    for cls in CLASSES:
        for field in schema_of(cls).fields:
            if field.plain is not None:
                yield pytest.param(cls, field.name, id=f"{cls.__name__}.{field.name}")


def _wire_of(cls: type, name: str) -> Any:
    return next(field for field in schema_of(cls).fields if field.name == name).leaves[0].wire


def samples(wire: Any) -> Iterator[tuple[object, object]]:
    """Yield values that a field accepts, each with the plain object that it becomes."""
    if isinstance(wire, (Integer, MaskedFlags, Bitmap)):
        enum = getattr(wire, "enum", None) or int
        yield from [(make(1), enum(1)) for make in INTEGERS.values()]
        yield True, enum(1)
    elif isinstance(wire, Text):
        yield OverriddenStr("abc"), "abc"
    elif isinstance(wire, Bytes):
        yield from [(OverriddenBytes(b"abc"), b"abc"), (bytearray(b"abc"), b"abc")]
    else:
        assert isinstance(wire, Address)
        yield OverriddenIPv4("10.0.0.1"), IPv4Address("10.0.0.1")


def empty(cls: type) -> Any:
    """Return an object without any value."""
    return raw(cls)(**{field.name: None for field in attrs.fields(cls)})


@pytest.mark.parametrize(("cls", "name"), list(scalar_fields()))
def test_every_field_converts_values_of_other_types(cls: type, name: str) -> None:
    for value, plain in samples(_wire_of(cls, name)):
        others = {
            field.name: None
            for field in attrs.fields(cls)
            if field.default is attrs.NOTHING and field.name != name
        }
        obj = getattr(cls(**others, **{name: value}), name)
        assert type(obj) is type(plain)
        assert obj == plain
        # An assignment is not checked, but the request has the plain value.
        assert encode_fields(cls, {name: value}) == encode_fields(cls, {name: plain})


def hostile_values() -> list[Any]:
    errors = (RuntimeError, KeyError, RecursionError, OverflowError, UnicodeError, MemoryError)
    return [
        *map(RaisingObject, errors),
        object(),
        [],
        {},
        1.5,
        "x",
        b"\xff",
        10**5000,
        -1,
        None.__class__,
    ]


@pytest.mark.parametrize(("cls", "name"), list(scalar_fields()))
def test_values_that_cannot_be_converted_raise_only_encode_errors(cls: type, name: str) -> None:
    wire = _wire_of(cls, name)
    for value in hostile_values():
        others = {field.name: None for field in attrs.fields(cls) if field.default is attrs.NOTHING}
        try:
            obj = cls(**others | {name: value})
        except EncodeError:
            assert cls is NATRange  # the only class that checks its fields when it is created
            continue
        fits = isinstance(wire, Text) and type(value) is str
        fits = fits or (isinstance(wire, Bytes) and type(value) is bytes)
        fits = fits or (getattr(wire, "signed", False) and type(value) is int and value == -1)
        if not fits:
            with pytest.raises(EncodeError) as caught:
                encode_fields(cls, {name: getattr(obj, name)})
            assert str(caught.value)


# Packers, which have memos of converted values


TARGETS: dict[str, Callable[[Any], bytes]] = {
    "create": lambda flow: requests.create_message(flow, None, None, 1),
    "delete": lambda flow: requests.delete_message(flow, None, 1),
    "get": lambda flow: requests.get_message(flow, None, 1),
    "update": lambda flow: requests.update_of_many({"mark": 1}, None)(flow).pack(1),
}


def full_flow() -> Flow:
    obj = Flow.tcp("10.0.0.1", 1, "10.0.0.2", 2, timeout=3, mark=4, zone=5)
    obj.status = Status.ASSURED
    obj.labels = 6
    obj.helper = Helper(name="ftp", info=b"x")
    obj.seqadj_orig = SeqAdj(correction_pos=1, offset_before=-1, offset_after=2)
    obj.master = Tuple.tcp("10.0.0.1", 7, "10.0.0.2", 8)
    obj.id = 9
    return obj


def misleading_values(value: Any) -> list[Any]:
    """Return objects with the same value whose methods return others."""
    if isinstance(value, int):
        return [make(int(value)) for make in INTEGERS.values()]
    if isinstance(value, str):
        return [OverriddenStr(value)]
    if isinstance(value, bytes):
        return [OverriddenBytes(value)]
    if isinstance(value, IPv4Address):
        return [OverriddenIPv4(value), IPv4Address(enum_member(int(value)))]
    return []


def places(value: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for field in schema_of(type(value)).fields:
        inner = getattr(value, field.name)
        if inner is None:
            continue
        if attrs.has(type(inner)):
            yield from places(inner, (*prefix, field.name))
        else:
            yield (*prefix, field.name), inner


def with_value(value: Any, path: tuple[str, ...], new: object) -> Any:
    name, *rest = path
    return with_values(
        value, **{name: with_value(getattr(value, name), tuple(rest), new) if rest else new}
    )


@pytest.mark.parametrize("kind", TARGETS)
def test_misleading_values_do_not_change_requests_or_memos(kind: str) -> None:
    """The bytes are the same before, with, and after each misleading value."""
    make_request = TARGETS[kind]
    expected = make_request(full_flow())
    count = 0
    for path, value in places(full_flow()):
        for misleading in misleading_values(value):
            for _ in range(2):
                assert make_request(with_value(full_flow(), path, misleading)) == expected
                assert make_request(full_flow()) == expected
            count += 1
    assert count > 30


def test_values_that_claim_to_be_equal_are_told_apart() -> None:
    class Chameleon(str):
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return hash("ftp")

    plain = full_flow()
    make_request = TARGETS["create"]
    for name in ("ftp", "irc"):
        plain.helper = Helper(name=name)
        expected = make_request(plain)
        other = with_values(plain, helper=with_values(Helper(), name=Chameleon(name)))
        assert make_request(other) == expected
        assert make_request(plain) == expected


def test_unknown_attributes_are_converted_too() -> None:
    flow = full_flow()
    flow.unknown = (UnknownAttribute((99,), b"x"),)
    expected = encode(flow)
    flow.unknown = (UnknownAttribute((enum_member(99),), OverriddenBytes(b"x")),)
    assert encode(flow) == expected
    for wrong in (5, (5,), (UnknownAttribute(("x",), b""),), RaisingObject(KeyError)):  # type: ignore[arg-type]
        flow.unknown = wrong  # type: ignore[assignment]
        with pytest.raises(EncodeError, match="unknown"):
            encode(flow)


def test_converted_values_equal_decoded_values() -> None:
    assert TCPInfo(state=3).state is TCPState.ESTABLISHED  # type: ignore[arg-type]
    assert type(TCPInfo(state=99).state) is int
    assert full_flow().status is Status.ASSURED
    assert Flow.udp("10.0.0.1", 1, "10.0.0.2", 2, timeout=True).timeout == 1


# Tuples, by whatever constructor


A, B = "10.0.0.1", "10.0.0.2"
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a port too large": ({"sport": 70000}, "sport"),
    "a port below 0": ({"dport": -1}, "dport"),
    "a port that is text": ({"sport": "80"}, "sport"),
    "a port that is a fraction": ({"sport": 80.0}, "sport"),
    "a protocol too large": ({"proto": 300}, "proto"),
    "an unknown protocol": ({"proto": "tpc"}, "proto"),
    "no protocol": ({"proto": None}, "proto"),
    "a zone too large": ({"zone": 70000}, "zone"),
    "an address that is not valid": ({"src": "10.0.0.256"}, "src"),
    "a network": ({"dst": "10.0.0.0/8"}, "dst"),
    "an address that is a number": ({"src": 0x0A000001}, "src"),
    "an address that is bytes": ({"src": b"\n\0\0\1"}, "src"),
    "no address": ({"dst": None}, "dst"),
    "an address with a scope": ({"src": "fe80::1%lo", "dst": "fe80::2"}, "src"),
    "two families": ({"dst": "2001:db8::1"}, "dst"),
    "two families, in the other order": ({"src": "2001:db8::1"}, "dst"),
    "an ICMP id too large": ({"proto": 1, "icmp_id": 1 << 16}, "icmp_id"),
    "an ICMP type too large": ({"proto": 1, "icmp_type": 256}, "icmp_type"),
    "an ICMP code too large": ({"proto": 58, "icmp_code": -1}, "icmp_code"),
    "ICMP fields of TCP": ({"icmp_id": 1}, "icmp_id"),
    "something hostile_values": ({"sport": RaisingObject(KeyError)}, "sport"),
    "a hostile_values address": ({"src": RaisingObject(OSError)}, "src"),
}
VALID: dict[str, Any] = {"src": A, "dst": B, "proto": 6, "sport": 1, "dport": 2}
CONSTRUCTORS: dict[str, Callable[[dict[str, Any]], Tuple]] = {
    "the constructor": lambda wrong: Tuple(**VALID | wrong),
    "attrs.evolve": lambda wrong: attrs.evolve(Tuple(**VALID), **wrong),
    "attrs.evolve of a decoded tuple": lambda wrong: attrs.evolve(decoded_tuple(), **wrong),
}
if hasattr(copy, "replace"):
    CONSTRUCTORS["copy.replace"] = lambda wrong: copy.replace(Tuple(**VALID), **wrong)  # pyright: ignore


def decoded_tuple() -> Tuple:
    return raw(Tuple)(src=IPv4Address(A), dst=IPv4Address(B), proto=6, sport=1, dport=2)


@pytest.mark.parametrize("constructor", CONSTRUCTORS)
@pytest.mark.parametrize("name", WRONG)
def test_a_tuple_that_is_not_valid_is_not_created(constructor: str, name: str) -> None:
    wrong, path = WRONG[name]
    with pytest.raises(EncodeError) as caught:
        CONSTRUCTORS[constructor](wrong)
    assert caught.value.path == (path,)


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: Tuple.tcp(A, 70000, B, 1), "sport"),
        (lambda: Tuple.udp(A, 1, B, None), "dport"),  # type: ignore[arg-type]
        (lambda: Tuple.udp("x", 1, B, 1), "src"),
        (lambda: Tuple.tcp(A, 1, 5, 1), "dst"),  # type: ignore[arg-type]
        (lambda: Tuple.tcp(A, 1, "::1", 1), "dst"),
        (lambda: Tuple.icmp(A, "::1", id=1), "dst"),
        (lambda: Tuple.icmp("::1", A, id=1), "dst"),
        (lambda: Tuple.icmp(A, B, id=1 << 16), "icmp_id"),
        (lambda: Tuple.icmp(A, B, id=1, type=256), "icmp_type"),
        (lambda: Flow.tcp(A, 70000, B, 1, timeout=1), "sport"),
        (lambda: Flow.udp(A, 1, "x", 1, timeout=1), "dst"),
        (lambda: Flow.icmp(A, "::1", id=1, timeout=1), "dst"),
    ],
)
def test_class_methods_refuse_values_that_are_not_valid(
    make: Callable[[], object], path: str
) -> None:
    with pytest.raises(EncodeError) as caught:
        make()
    assert caught.value.path == (path,)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("kind", TARGETS)
def test_assigned_values_are_checked_by_the_request(kind: str, name: str) -> None:
    """An assignment is not checked, but a request with the value raises an EncodeError."""
    wrong, _ = WRONG[name]
    broken = with_values(full_flow(), orig=with_values(Tuple(**VALID), **wrong), zone=None)
    with pytest.raises(EncodeError):
        TARGETS[kind](broken)
    if kind in ("delete", "get", "update"):
        with pytest.raises(EncodeError):
            TARGETS[kind](broken.orig)


def test_addresses_as_text_and_protocols_by_name_are_accepted() -> None:
    obj = Tuple(src=A, dst=B, proto="TCP", sport=1, dport=2)  # type: ignore[arg-type]
    assert obj == Tuple.tcp(A, 1, B, 2) == attrs.evolve(decoded_tuple(), src=A)
    assert (type(obj.src), type(obj.proto)) == (IPv4Address, int)
    assert Tuple(
        src=OverriddenStr(A), dst=OverriddenIPv4(B), proto=enum_member(6)
    ).dst == IPv4Address(B)  # type: ignore[arg-type]
    assert type(Tuple(src=IPv4Interface("10.0.0.1/8"), dst=B, proto=6).src) is IPv4Address  # type: ignore[arg-type]
    assert hash(Tuple(src=IPv4Address(enum_member(1)), dst=B, proto=6))  # type: ignore[arg-type]


# Mapped addresses


MA, MB = "::ffff:10.0.0.1", "::ffff:10.0.0.2"
PLAIN = Tuple.tcp(A, 1, B, 2)


@pytest.mark.parametrize("kind", [str, IPv6Address, OverriddenIPv6], ids=lambda kind: kind.__name__)
def test_ipv4_mapped_addresses_become_ipv4_addresses(kind: Any) -> None:
    src, dst = kind(MA), kind(MB)
    assert Tuple.tcp(src, 1, dst, 2) == PLAIN
    assert Tuple.tcp(src, 1, B, 2) == Tuple.tcp(A, 1, dst, 2) == PLAIN
    assert Tuple(src=src, dst=dst, proto=6, sport=1, dport=2) == PLAIN
    assert attrs.evolve(PLAIN, src=src) == PLAIN
    assert Tuple.icmp(src, dst, id=1) == Tuple.icmp(A, B, id=1)
    assert Flow.udp(src, 1, dst, 2, timeout=1) == Flow.udp(A, 1, B, 2, timeout=1)
    assert NATRange.of(src) == NATRange.of(A)
    both = NATRange(address_min=src, address_max=dst)
    assert both == NATRange(address_min=A, address_max=B)  # type: ignore[arg-type]
    assert ExpectNAT.of(src, 1) == ExpectNAT.of(A, 1)


def test_a_mapped_address_with_another_ipv6_address_is_kept() -> None:
    """NAT64 may have such packets. They do not belong to an IPv4 entry."""
    assert Tuple.tcp(MA, 1, "2001:db8::1", 2).src == IPv6Address(MA)
    assert Tuple.icmp(MA, "2001:db8::1", id=1).proto == 58


def mapped_tuple() -> Tuple:
    """Return a tuple of mapped addresses as it is decoded from the kernel's message."""
    return raw(Tuple)(src=IPv6Address(MA), dst=IPv6Address(MB), proto=6, sport=1, dport=2)


@pytest.mark.parametrize(
    "copy_of",
    [
        copy.copy,
        copy.deepcopy,
        lambda tuple_: pickle.loads(pickle.dumps(tuple_)),
        lambda tuple_: tuple_.inverse.inverse,
        lambda tuple_: with_values(tuple_, zone=7).without_zone,
    ],
)
def test_mapped_addresses_from_the_kernel_are_kept(copy_of: Callable[[Tuple], Tuple]) -> None:
    assert copy_of(mapped_tuple()) == mapped_tuple() != PLAIN
    assert copy_of(mapped_tuple()).family == mapped_tuple().family


def test_the_translation_of_a_mapped_flow_keeps_the_family() -> None:
    reply = with_values(mapped_tuple().inverse, dst=IPv6Address("::ffff:10.0.0.9"))
    nat = Flow(orig=mapped_tuple(), reply=reply).nat
    assert nat is not None
    assert nat.src is not None
    assert nat.src.range.address_min == IPv6Address("::ffff:10.0.0.9")


# As text


def unusual_values() -> list[Any]:
    return [
        *(
            "7",
            "",
            b"x",
            5,
            -1,
            1.5,
            10**5000,
            1 << 40,
            None,
            [],
            {},
            object(),
            RaisingObject(KeyError),
        ),
        *(
            RaisingObject(RecursionError),
            full_flow(),
            full_flow().orig,
            Helper(name="ftp"),
            NATRange(port_min=1),
        ),
    ]


def objects_with_text() -> Iterator[Any]:
    """Yield an object of each class with a text, and the path of each field, at any depth."""
    expected = Expectation.of(
        full_flow().orig, Tuple.tcp(A, 1, B, 2), nat=ExpectNAT.of(A, 5), any_sport=True
    )
    flow = full_flow()
    flow.counters_orig = flow.counters_reply = Counters(packets=1, bytes=2)
    for obj in (
        Tuple(**VALID),
        Tuple.icmp(A, B, id=1),
        flow,
        expected,
        FlowEvent(type=EventType.NEW, flow=flow, nsid=1, netns="x", timestamp=1),
        ExpectEvent(type=EventType.NEW, expectation=expected, receive_timestamp=1),
    ):
        for path in paths(obj):
            yield pytest.param(obj, path, id=f"{type(obj).__name__}.{'.'.join(path)}")


def paths(obj: Any) -> Iterator[tuple[str, ...]]:
    for field in attrs.fields(type(obj)):
        yield (field.name,)
        inner = getattr(obj, field.name)
        if attrs.has(type(inner)):
            yield from [(field.name, *path) for path in paths(inner)]


@pytest.mark.parametrize(("obj", "path"), list(objects_with_text()))
def test_the_text_of_an_object_never_raises(obj: Any, path: tuple[str, ...]) -> None:
    for value in unusual_values():
        assert str(with_value(obj, path, value))


@pytest.mark.parametrize(
    ("field", "value", "text_of_value"),
    [
        ("mark", "7", "mark='7'"),
        ("status", "assured", "status='assured'"),
        ("helper", "ftp", "helper='ftp'"),
        ("orig", None, "None"),
        ("master", 5, "master=(5)"),
        ("labels", -1, "labels=-1"),
        ("counters_orig", 5, "counters_orig=5"),
        ("protoinfo", "x", "protoinfo='x'"),
        ("mark", 10**5000, "mark=an object of type int"),
    ],
    ids=lambda value: describe_value(value),
)
def test_the_text_shows_values_that_are_not_valid(
    field: str, value: object, text_of_value: str
) -> None:
    text = str(with_value(full_flow(), (field,), value))
    assert text_of_value in text
    assert "timeout=3" in text  # the other fields are in the text, too


def test_the_text_shows_values_of_other_types_converted() -> None:
    flow = full_flow()
    flow.status, flow.mark = Status.ASSURED | Status.SEEN_REPLY, 9
    expected = str(flow)
    for make in INTEGERS.values():
        flow.status, flow.mark = make(int(Status.ASSURED | Status.SEEN_REPLY)), make(9)
        assert str(flow) == expected


# Packets to translate


def test_a_packet_to_translate_is_a_tuple() -> None:
    flow = full_flow()
    for wrong in ("x", None, 5, flow, object(), RaisingObject(KeyError)):
        with pytest.raises(TypeError, match="packet must be a Tuple"):
            flow.translate(wrong)
    for make in INTEGERS.values():
        assert flow.translate(with_values(flow.orig, sport=make(1))) == flow.orig


# Whatever misleading_values about its class


@pytest.mark.parametrize("claimed", [IPv4Address, IPv6Address, int, str, bytes])
def test_an_object_that_claims_another_class_is_refused(claimed: type) -> None:
    class Claims:
        @property
        def __class__(self) -> Any:
            return claimed

    value: Any = Claims()
    for convert in (as_int, as_str, as_bytes, as_address):
        with pytest.raises(TypeError):
            convert(value)
    for field in ("src", "proto", "sport"):
        with pytest.raises(EncodeError):
            Tuple(**VALID | {field: value})
    for cls, field in ((Helper, "name"), (Helper, "info"), (SeqAdj, "correction_pos")):
        with pytest.raises(EncodeError):
            encode_fields(cls, {field: getattr(cls(**{field: value}), field)})
