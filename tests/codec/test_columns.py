"""Columns have the values of the objects that the reference decoder makes, for any bytes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import AF_INET, AF_INET6
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.captured import CAPTURED
from support.codec_cases import BOTH_TUPLES, CASES, attr, be8, be16, be32, nest
from support.decoders import without_layouts
from support.effort import examples
from support.model_strategies import edited_payloads

from conntrack_aio import (
    ColumnBatch,
    DCCPInfo,
    DecodeError,
    Flow,
    FlowEvent,
    SCTPInfo,
    SCTPState,
    TCPInfo,
    TCPState,
    Tuple,
)
from conntrack_aio.codec import column_collector
from conntrack_aio.codec.arrow import Addresses
from conntrack_aio.codec.column_collector import ColumnCollector, MessageContext
from conntrack_aio.codec.columns import ipv6_text
from conntrack_aio.codec.decoder import Datagram, Decoder, pack_seq
from conntrack_aio.codec.event_messages import decode_event
from conntrack_aio.codec.messages import CT_DELETE, CT_NEW, decode_flow
from conntrack_aio.codec.scalars import from_words
from conntrack_aio.model.client_statistics import ClientStatistics
from conntrack_aio.model.protocols import PROTOCOL_NAMES
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.messages import Message

bounded = settings(
    deadline=timedelta(seconds=5),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
MULTI, CREATE = 0x2, 0x400
Items = list[Any]


def message(
    attributes: bytes,
    message_type: int = CT_NEW,
    flags: int = MULTI,
    *,
    seq: int = 1,
    port_id: int = 7,
) -> bytes:
    return messages.pack(message_type, flags, seq, b"\2\0\0\0" + attributes, port_id)


def messages_of(cls: type, message_type: int, flags: int = MULTI) -> list[bytes]:
    return [
        message(case.data, message_type, flags) for case in CASES if isinstance(case.object, cls)
    ]


FLOWS = [capture.data for capture in CAPTURED if capture.event is None] + messages_of(Flow, CT_NEW)
EVENTS = [capture.data for capture in CAPTURED if capture.event is not None]
EVENTS += messages_of(FlowEvent, CT_NEW, CREATE) + messages_of(FlowEvent, CT_DELETE, 0)
each_decoder = pytest.mark.parametrize(
    ("decoder", "known_messages"),
    [(decode_flow, FLOWS), (decode_event, EVENTS)],
    ids=["flows", "events"],
)


# What the columns must have


def address(value: Any, addresses: Addresses) -> Any:
    if value is None or addresses == "text":
        return None if value is None else str(value)
    return value.packed if value.version == 6 else IPv6Address(f"::ffff:{value}").packed


def tuple_columns(prefix: str, tuple_: Tuple | None, addresses: Addresses) -> dict[str, Any]:
    def get(name: str) -> Any:
        return getattr(tuple_, name, None)

    names = ("sport", "dport", "icmp_id", "icmp_type", "icmp_code", "zone")
    return {
        f"{prefix}_src": address(get("src"), addresses),
        f"{prefix}_dst": address(get("dst"), addresses),
        **{f"{prefix}_{name}": get(name) for name in names},
    }


def total(*values: int | None) -> int | None:
    present = [value for value in values if value is not None]
    return min(sum(present), (1 << 64) - 1) if present else None


def state_of(flow: Flow) -> str | None:
    state = getattr(flow.protoinfo, "state", None)
    return None if state is None else getattr(state, "name", str(state))


def flow_columns(flow: Flow, addresses: Addresses) -> dict[str, Any]:
    def inside(obj: Any, prefix: str, *names: str) -> dict[str, Any]:
        return {f"{prefix}{name}": getattr(obj, name, None) for name in names}

    def of_class(cls: type, prefix: str, *names: str) -> dict[str, Any]:
        obj = flow.protoinfo if isinstance(flow.protoinfo, cls) else None
        return inside(obj, prefix, *names)

    offsets = ("correction_pos", "offset_before", "offset_after")
    orig, reply, master = flow.orig, flow.reply, flow.master
    columns = {
        "family": AF_INET if isinstance(orig.src, IPv4Address) else AF_INET6,
        "proto": orig.proto,
        "protocol": PROTOCOL_NAMES.get(orig.proto, str(orig.proto)),
        **tuple_columns("orig", orig, addresses),
        **tuple_columns("reply", reply, addresses),
        **tuple_columns("master", master, addresses),
        "master_proto": getattr(master, "proto", None),
        **inside(flow, "", "status", "timeout", "mark", "zone", "id", "use", "labels", "secctx"),
        "state": state_of(flow),
        **of_class(
            TCPInfo, "tcp_", "state", "wscale_orig", "wscale_reply", "flags_orig", "flags_reply"
        ),
        **of_class(DCCPInfo, "dccp_", "state", "role", "handshake_seq"),
        **of_class(SCTPInfo, "sctp_", "state", "vtag_orig", "vtag_reply"),
        **inside(flow.counters_orig, "orig_", "packets", "bytes"),
        **inside(flow.counters_reply, "reply_", "packets", "bytes"),
        **inside(flow.timestamp, "", "start", "stop"),
        **inside(flow.helper, "helper_", "name", "info"),
        **inside(flow.seqadj_orig, "orig_seqadj_", *offsets),
        **inside(flow.seqadj_reply, "reply_seqadj_", *offsets),
        **inside(flow.synproxy, "synproxy_", "isn", "its", "tsoff"),
    }
    columns["packets"] = total(columns["orig_packets"], columns["reply_packets"])
    columns["bytes"] = total(columns["orig_bytes"], columns["reply_bytes"])
    return columns


def columns_of(obj: Any, addresses: Addresses) -> dict[str, Any]:
    if isinstance(obj, Flow):
        return flow_columns(obj, addresses)
    names = ("port_id", "nsid", "netns", "timestamp", "receive_timestamp")
    return {
        "type": obj.type.value,
        **{name: getattr(obj, name) for name in names},
        **flow_columns(obj.flow, addresses),
    }


def comparable(error: DecodeError) -> tuple[Any, ...]:
    return type(error), error.reason, error.path


def by_reference(
    decoder: Decoder[Any],
    data: bytes,
    addresses: Addresses = "bytes",
    seq: int | None = None,
    predicate: Callable[[Any], bool] | None = None,
) -> Items:
    items: Items = []
    try:
        for each in messages.walk(data, len(data)):
            if seq is not None and each.seq != seq:
                continue
            try:
                obj = decoder(data, each)
                if predicate is None or predicate(obj):
                    items.append(columns_of(obj, addresses))
            except DecodeError as error:
                items.append(comparable(error))
    except DecodeError as error:
        items.append(comparable(error))
    return items


# What they have


def rows_of(batch: ColumnBatch) -> list[dict[str, Any]]:
    """Return the rows of a batch, after comparing the ways in which a column can be read."""
    for name in batch.names:
        column = batch[name]
        assert len(column) == len(batch)
        values = column.to_list()
        assert list(column) == values == [column[i] for i in range(len(column))]
        assert column[-1] == values[-1]
        valid = column.validity or b"\1" * len(batch)
        assert [value is not None for value in values] == [bool(each) for each in valid]
        assert data_of(column) == [v for v in map(encoded, values) if v is not None]
    listed = batch.to_dict()
    return [dict(zip(listed, row, strict=True)) for row in zip(*listed.values(), strict=True)]


def encoded(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="surrogateescape").decode(errors="replace")
    return value


def data_of(column: Any) -> Items:
    """Return the values that are present, read from the buffers of a column."""
    valid = [bool(each) for each in column.validity or b"\1" * len(column)]
    if column.dictionary is not None:
        numbers = [n for n, has in zip(column.data, valid, strict=True) if has]
        return [encoded(column.dictionary[number]) for number in numbers]
    if column.offsets is not None:
        ends = zip(column.offsets, column.offsets[1:], strict=False)
        found = [bytes(column.data[start:end]) for start, end in ends]
        is_text = any(isinstance(value, str) for value in column)
        values: Items = [value.decode() if is_text else value for value in found]
    elif len(column.data) == len(column):
        values = column.data.tolist()
    else:
        assert len(column.data) == 16 * len(column)
        values = [bytes(column.data[16 * i : 16 * i + 16]) for i in range(len(column))]
        if column.name == "labels":
            values = list(map(from_words, values))
    return [value for value, has in zip(values, valid, strict=True) if has]


def by_columns(
    decoder: Decoder[Any],
    datagrams: Iterable[bytes],
    addresses: Addresses = "bytes",
    seq: int | None = None,
    predicate: Callable[[Any], bool] | None = None,
    names: tuple[str, ...] = (),
    counters: ClientStatistics | None = None,
) -> Items:
    counters = counters or ClientStatistics()
    decoded = [0, 0]

    def accepts(buffer: bytes, message: Message) -> bool:
        return seq is None or message.seq == seq

    def count_decoded(objects: int, errors: int) -> None:
        decoded[0] += objects
        decoded[1] += errors

    context = MessageContext(accepts, count_decoded, counters)
    wanted = None if seq is None else pack_seq(seq)
    collector: ColumnCollector[Any] = ColumnCollector(decoder, names, addresses, wanted, context)
    malformed: Items = []
    try:
        for data in datagrams:
            collector.add_datagram(Datagram(data), predicate)
    except DecodeError as error:
        malformed.append(comparable(error))
    collector.flush()
    items: Items = []
    for result in collector.results:
        items += rows_of(result) if isinstance(result, ColumnBatch) else [comparable(result)]  # type: ignore[arg-type]
    errors = [item for item in items if isinstance(item, tuple)]
    assert decoded[1] == counters.decode_errors == len(errors)
    if predicate is None:
        assert decoded[0] == len(items) - len(errors)
    return items + malformed


def assert_equal(found: Items, expected: Items) -> None:
    """Compare rows one by one, for a short report."""
    for row, wanted in zip(found, expected, strict=False):
        assert row == wanted
    assert len(found) == len(expected)


# Equal to the objects


@each_decoder
@pytest.mark.parametrize("addresses", ["bytes", "text"])
def test_columns_equal_the_objects(
    decoder: Decoder[Any], known_messages: Sequence[bytes], addresses: Addresses
) -> None:
    decoder = without_layouts(decoder)
    data = b"".join(known_messages)
    expected = by_reference(decoder, data, addresses)
    for _ in range(3):
        assert_equal(by_columns(decoder, [data], addresses), expected)
        assert_equal(by_columns(decoder, known_messages, addresses), expected)


@each_decoder
@settings(bounded, max_examples=examples(30))
@given(data=st.data())
def test_any_bytes_give_the_columns_of_the_objects(
    decoder: Decoder[Any], known_messages: list[bytes], data: st.DataObject
) -> None:
    """Edited messages are compared with the layouts of the originals and of earlier edits."""
    edits = data.draw(st.lists(edited_payloads(known_messages), min_size=1, max_size=4))
    addresses: Addresses = data.draw(st.sampled_from(["bytes", "text"]))
    decoder = without_layouts(decoder)
    by_columns(decoder, known_messages)
    for each in [*edits, *reversed(edits)]:
        expected = by_reference(decoder, each, addresses)
        assert_equal(by_columns(decoder, [each], addresses), expected)


@each_decoder
@settings(bounded, max_examples=examples(40))
@given(data=st.data())
def test_runs_and_interleaved_messages_give_the_columns_of_the_objects(
    decoder: Decoder[Any], known_messages: list[bytes], data: st.DataObject
) -> None:
    """Messages of few skeletons are mixed with others, with invalid bytes and other numbers."""
    samples = data.draw(st.lists(st.sampled_from(known_messages), min_size=1, max_size=4))
    part = st.sampled_from(samples) | edited_payloads(samples)
    parts = data.draw(st.lists(st.tuples(part, st.integers(1, 40)), min_size=1, max_size=8))
    datagram = b"".join(part * count for part, count in parts)
    seq = data.draw(st.sampled_from([None, 1]))
    decoder = without_layouts(decoder)
    for _ in range(2):
        expected = by_reference(decoder, datagram, seq=seq)
        assert_equal(by_columns(decoder, [datagram], seq=seq), expected)


@settings(bounded, max_examples=examples(40))
@given(data=st.data())
def test_any_values_give_the_columns_of_the_objects(data: st.DataObject) -> None:
    """Any bytes of a message may differ from those of the messages around it."""
    original = data.draw(st.sampled_from([each for each in FLOWS if len(each) > 100]))
    edited = bytearray(original)
    for i in data.draw(st.lists(st.integers(16, len(original) - 1), max_size=6)):
        edited[i] = data.draw(st.integers(0, 255))
    datagram = original * 20 + bytes(edited) + original * 20 + bytes(edited) * 20
    decoder = without_layouts(decode_flow)
    for _ in range(2):
        assert_equal(by_columns(decoder, [datagram]), by_reference(decoder, datagram))


@each_decoder
def test_a_predicate_chooses_rows(decoder: Decoder[Any], known_messages: Sequence[bytes]) -> None:
    def is_tcp(obj: Any) -> bool:
        return getattr(obj, "flow", obj).orig.proto == 6

    decoder = without_layouts(decoder)
    data = b"".join(known_messages) * 3
    expected = by_reference(decoder, data, predicate=is_tcp)
    assert 0 < len(expected) < 3 * len(known_messages)
    for _ in range(2):
        assert_equal(by_columns(decoder, [data], predicate=is_tcp), expected)


@each_decoder
def test_named_columns_are_those_of_all(
    decoder: Decoder[Any], known_messages: Sequence[bytes]
) -> None:
    data = b"".join(known_messages) * 3
    rows = by_columns(decoder, [data])
    assert rows
    for names in [*((name,) for name in rows[0]), ("bytes", "orig_src", "state")]:
        found = by_columns(decoder, [data], names=names)
        assert_equal(found, [{name: row[name] for name in names} for row in rows])


# Each case of the collector


def port(number: int, proto: int = 6) -> bytes:
    return nest(2, be8(1, proto) + be16(2, number) + be16(3, 80))


@pytest.mark.parametrize(
    ("decoder", "is_event"), [(decode_flow, False), (decode_event, True)], ids=["flows", "events"]
)
def test_no_object_is_made_of_messages_with_layouts(decoder: Decoder[Any], is_event: bool) -> None:
    decoder = without_layouts(decoder)
    counters = ClientStatistics()
    captured = [each.data for each in CAPTURED if (each.event is not None) is is_event]
    by_columns(decoder, captured, counters=counters)
    read = counters.fallbacks
    assert read
    by_columns(decoder, captured * 3, counters=counters)
    assert counters.fallbacks == read


@pytest.mark.parametrize("between", [0, 1, 40], ids=["alternating", "one", "many"])
def test_skeletons_with_one_header_are_told_apart(between: int) -> None:
    one, other = BOTH_TUPLES + be32(7, 1), BOTH_TUPLES + be32(8, 2)
    assert len(one) == len(other)
    decoder = without_layouts(decode_flow)
    data = message(one) * (between + 1) + message(other) * (between + 1)
    data = data * 3 + message(BOTH_TUPLES + be32(99, 3)) + data
    for _ in range(3):
        assert_equal(by_columns(decoder, [data]), by_reference(decoder, data))


def test_messages_that_are_not_as_their_headers_suggest_are_read_again() -> None:
    """Errors and unknown attributes among them stay in their places."""
    plain = message(BOTH_TUPLES + be32(7, 1))
    others = [
        message(BOTH_TUPLES + attr(7, b"123")),  # an error
        message(BOTH_TUPLES + be32(99, 1)),
        message(BOTH_TUPLES + be32(7, 1), seq=2),  # of another dump
        message(BOTH_TUPLES + be32(1, 1)),  # a tuple without attributes
    ]
    assert {len(each) for each in others} == {len(plain)}
    for other in others:
        decoder = without_layouts(decode_flow)
        by_columns(decoder, [plain], seq=1)
        data = plain * 30 + other + plain * 3 + other * 20 + plain
        assert_equal(by_columns(decoder, [data], seq=1), by_reference(decoder, data, seq=1))


def test_a_batch_with_too_many_groups_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_collector, "_MAX_GROUPS", 3)
    decoder = without_layouts(decode_flow)
    data = b"".join(FLOWS) * 2
    for _ in range(2):
        assert_equal(by_columns(decoder, [data]), by_reference(decoder, data))


def test_a_skeleton_that_was_compiled_twice_is_collected_as_one() -> None:
    decoder = without_layouts(decode_flow)
    data = message(BOTH_TUPLES + be32(7, 1))
    by_columns(decoder, [data])
    ((head, layouts),) = decoder._layouts.items()
    by_columns(other := without_layouts(decode_flow), [data])
    decoder._layouts[head] = [*layouts, *other._layouts[head]]
    context = MessageContext(lambda *_: True, lambda *_: None, ClientStatistics())
    collector: ColumnCollector[Any] = ColumnCollector(decoder, (), "bytes", pack_seq(1), context)
    collector.add_datagram(Datagram(data * 3))
    assert len(collector._known) == 1
    assert not collector._unclear
    collector.flush()
    assert list(map(len, collector.results)) == [3]  # type: ignore[arg-type]


def test_truncated_datagrams_end_in_an_error() -> None:
    decoder = without_layouts(decode_flow)
    data = message(BOTH_TUPLES + be32(7, 1))
    by_columns(decoder, [data])
    for end in range(1, len(data)):
        cut = data * 2 + data[:end]
        assert_equal(by_columns(decoder, [cut]), by_reference(decoder, cut))


@pytest.mark.parametrize(
    "counters",
    [(1, 2), ((1 << 63) - 1, (1 << 63) - 1), (1 << 63, 1 << 63), ((1 << 64) - 1, 1)],
)
def test_sums_are_the_sums_of_both_directions(counters: tuple[int, int]) -> None:
    def of(number: int, value: int) -> bytes:
        return nest(number, attr(1, value.to_bytes(8, "big")) + attr(2, value.to_bytes(8, "big")))

    both = BOTH_TUPLES + of(9, counters[0]) + of(10, counters[1])
    data = b"".join(map(message, [both, BOTH_TUPLES + of(9, counters[0]), BOTH_TUPLES, both]))
    decoder = without_layouts(decode_flow)
    for _ in range(2):
        rows = by_columns(decoder, [data])
        found = [row["bytes"] for row in rows]
        assert found == [total(*counters), counters[0], None, total(*counters)]
        assert [row["packets"] for row in rows] == found


def test_states_of_several_protocols_are_in_one_column() -> None:
    tcp = BOTH_TUPLES + nest(4, nest(1, be8(1, TCPState.ESTABLISHED)))
    sctp = BOTH_TUPLES + nest(4, nest(3, be8(1, 4)))
    unknown = BOTH_TUPLES + nest(4, nest(1, be8(1, 99)))
    data = b"".join(map(message, [sctp, tcp, BOTH_TUPLES, unknown]))
    for names in ((), ("state",)):
        rows = by_columns(without_layouts(decode_flow), [data] * 2, names=names)
        assert [row["state"] for row in rows] == ["ESTABLISHED", "ESTABLISHED", None, "99"] * 2


def test_dictionaries_end_at_the_last_name_that_is_needed() -> None:
    tcp, unknown = (BOTH_TUPLES + nest(4, nest(1, be8(1, state))) for state in (3, 99))
    sctp = BOTH_TUPLES + nest(4, nest(3, be8(1, 4)))

    def dictionary(*parts: bytes, name: str = "state") -> list[str]:
        collector = make(name)
        for part in parts:
            collector.add_datagram(Datagram(message(part)))
        collector.flush()
        (batch,) = collector.results
        return list(batch[name].dictionary)

    states = [str(TCPState(number)) for number in range(max(TCPState) + 1)]
    assert dictionary(tcp, BOTH_TUPLES) == states
    assert dictionary(tcp, unknown)[98:] == ["98", "99"]
    assert dictionary(tcp, sctp)[: len(states) + 1] == [*states, SCTPState(0).name]
    protocols = dictionary(tcp, name="protocol")
    assert (protocols[6], protocols[-1]) == ("tcp", PROTOCOL_NAMES[max(PROTOCOL_NAMES)])


def test_unnamed_texts_and_payloads_of_any_bytes() -> None:
    texts = [b"ftp\0", b"\xff\xfe\0", "ä".encode() + b"\0rest", b""]
    parts = [nest(5, attr(1, text) + attr(2, text)) + nest(21, attr(1, text)) for text in texts]
    data = b"".join(message(BOTH_TUPLES + part) for part in [b"", *parts])
    decoder = without_layouts(decode_flow)
    for _ in range(2):
        assert_equal(by_columns(decoder, [data]), by_reference(decoder, data))


@settings(max_examples=examples(200))
@given(
    packed=st.binary(min_size=16, max_size=16)
    | st.lists(st.sampled_from([b"\0\0", b"\xff\xff", b"\0\1"]), min_size=8, max_size=8).map(
        b"".join
    )
)
def test_addresses_have_the_text_of_their_objects(packed: bytes) -> None:
    assert ipv6_text(packed) == str(ip_address(packed))


# Names


def make(*names: str, addresses: Any = "bytes") -> Any:
    context = MessageContext(lambda *_: True, lambda *_: None, ClientStatistics())
    return ColumnCollector(decode_flow, names, addresses, None, context)


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match="unknown column 'orig_scr'; did you mean 'orig_src'"):
        make("orig_scr")
    with pytest.raises(ValueError, match=r"unknown column '\?'; the columns are family, orig_src"):
        make("?")
    with pytest.raises(ValueError, match="column 'mark' is named twice"):
        make("mark", "mark")
    with pytest.raises(TypeError, match="names of columns must be text; got int"):
        make(1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='addresses must be "bytes" or "text"; got \'raw\''):
        make(addresses="raw")


def test_a_batch_has_only_the_columns_that_were_asked_for() -> None:
    collector = make("mark", "orig_src")
    collector.add_datagram(Datagram(FLOWS[0]))
    collector.flush()
    (batch,) = collector.results
    assert batch.names == ("mark", "orig_src") == tuple(batch)
    assert repr(batch) == "<ColumnBatch: 1 rows, 2 columns>"
    assert repr(batch["mark"]) == "<Column mark: 1 rows>"
    with pytest.raises(KeyError, match="this batch has no column 'marks'; did you mean 'mark'"):
        batch["marks"]
    with pytest.raises(IndexError):
        batch["mark"][1]
    with pytest.raises(IndexError):
        batch["orig_src"][-2]
    assert batch["mark"][:1] == batch["mark"].to_list()


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_batch_and_its_columns_cannot_be_duplicated(duplicate: Callable[[object], Any]) -> None:
    collector = make()
    collector.add_datagram(Datagram(FLOWS[0]))
    collector.flush()
    (batch,) = collector.results
    message = r"a ColumnBatch cannot be pickled or copied; use its to_dict\(\)"
    with pytest.raises(TypeError, match=message):
        duplicate(batch)
    for name in batch:
        with pytest.raises(TypeError, match=r"cannot be pickled or copied; use its to_list\(\)"):
            duplicate(batch[name])
    assert pickle.loads(pickle.dumps(batch.to_dict())) == batch.to_dict()
