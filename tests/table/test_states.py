"""Test records: the results must be those of flows, for messages of any kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice, product
from random import Random

import pytest
from fuzz import seeds
from fuzz.mutation import Node, parse
from support.effort import thorough_or_quick

from conntrack_aio import DecodeError, EventType, Flow, json_lines, text_lines
from conntrack_aio.codec.decoder import Decoder
from conntrack_aio.model.events import FlowEvent
from conntrack_aio.netlink.attributes import pack
from conntrack_aio.table import merging, states, tuple_keys
from conntrack_aio.table.states import State, States
from conntrack_aio.uapi.nfnetlink_conntrack import CTA

_HEADERS_SIZE = 20
_SEEDS: list[bytes] = [*seeds.FLOWS, *seeds.EVENTS]
_NEW, _UPDATE = (0x100, 0x600), (0x100, 0)
_VALUES = (CTA.STATUS, CTA.TIMEOUT, CTA.MARK, CTA.ID, CTA.LABELS, CTA.ZONE)


def attributes_of(message: bytes) -> list[Node]:
    nodes = parse(message[_HEADERS_SIZE:])
    assert nodes is not None
    return nodes


def variants(message: bytes, random: Random) -> Iterator[bytes]:
    """Yield the attributes of a message, and those of messages that differ from it."""
    yield message[_HEADERS_SIZE:]
    for _ in range(thorough_or_quick(14, 6)):
        nodes = attributes_of(message)
        for _ in range(random.choice((1, 1, 2, 4))):
            number = random.randrange(len(nodes))
            match random.randrange(6):
                case 0:
                    random.shuffle(nodes)
                case 1 if len(nodes) > 3:
                    del nodes[number]
                case 2:
                    nodes.insert(random.randrange(len(nodes)), nodes[number])
                case 3:
                    inside = nodes[number].inside
                    if inside and nodes[number].kind & 0x3FFF > CTA.TUPLE_REPLY:
                        del inside[random.randrange(len(inside))]
                case 4:
                    other = attributes_of(random.choice(_SEEDS))
                    nodes.append(random.choice(other))
                case _:
                    for node in nodes:
                        if node.kind in _VALUES and random.random() < 0.3:
                            node.payload = bytes(len(node.payload) - 1) + random.choice(
                                (b"\0", b"\1")
                            )
        yield b"".join([node.pack() for node in nodes])


def decoded(attributes: bytes) -> Flow | None:
    """Return a flow that knows its message; ``None`` if it cannot be decoded."""
    decoder = Decoder(Flow, "", lambda *_: {})
    message = seeds.message(b"\2\0\0\0" + attributes, *_UPDATE)
    try:
        for _ in range(2):  # the first time, this compiles the layout
            flow = decoder.one(message)
    except DecodeError:
        return None
    return flow


def pairs() -> Iterator[tuple[States, list[tuple[State, Flow]]]]:
    """Yield, for each seed, states of one original tuple with the flow of each."""
    random = Random(1)
    for seed in _SEEDS:
        formats, found = States(), list[tuple[State, Flow]]()
        for attributes in variants(seed, random):
            expected, flow = decoded(attributes), decoded(attributes)
            if flow is None or expected is None:
                continue
            found.append((formats.read(flow)[0], merging.duplicate(expected)))
        key = tuple_keys.orig_key(found[0][1])
        yield formats, [each for each in found if tuple_keys.orig_key(each[1]) == key]


def test_a_record_says_what_its_flow_says() -> None:
    count = Counter[type]()
    for formats, found in pairs():
        for state, flow in found:
            count[type(state)] += 1
            assert formats.flow_of(state) == flow
            assert formats.new_flow(state) == flow
            assert json_lines([formats.new_flow(state)]) == json_lines([flow])
            assert text_lines([formats.new_flow(state)]) == text_lines([flow])
            assert formats.keys_of(state) == tuple_keys.keys_of(flow)
            for of_state in (
                formats.id_of, formats.timeout_of, formats.is_dying, formats.has_labels
            ):  # fmt: skip
                assert of_state(state) == of_state(flow), (of_state, flow)
    assert count[bytes] > 20 * count[Flow]


@pytest.mark.parametrize("functions", [1, states._MAX_FUNCTIONS])
def test_two_records_are_compared_and_merged_like_their_flows(
    functions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results do not depend on how many compiled functions a table keeps."""
    monkeypatch.setattr(states, "_MAX_FUNCTIONS", functions)
    seeds_used = len(_SEEDS) if functions > 1 else 2
    count = Counter[type | None]()
    for formats, found in islice(pairs(), seeds_used):
        for (known, flow), (update, other) in product(found, repeat=2):
            same = merging.same_entry(flow, other)
            assert formats.same_entry(known, update) == same
            changed = merging.changed_fields(flow, other)
            assert formats.changed_fields(known, update) == changed
            merged = formats.merge(known, update)
            count[None if merged is None else type(merged)] += 1
            if not same:
                assert merged is None
                continue
            assert merged is not None
            expected = merging.duplicate(other)
            merging.merge_update(flow, expected)
            assert formats.flow_of(merged) == expected
            assert formats.keys_of(merged) == tuple_keys.keys_of(expected)
            assert formats.flow_of(known) == flow
            assert formats.flow_of(update) == other
    assert count[bytes] > count[Flow]


@pytest.mark.parametrize("kind", [_NEW, _UPDATE])
@pytest.mark.parametrize("where", ["first", "between", "last", "absent"])
@pytest.mark.parametrize("marked", [True, False])
def test_the_record_of_an_event_has_the_attributes_of_its_flow(
    kind: tuple[int, int], where: str, marked: bool
) -> None:
    """The event's own time is left out. A NEW event that lacks the mark has a mark of 0."""
    nodes = [each for each in attributes_of(seeds.FLOWS[0]) if each.kind != CTA.MARK]
    attributes = [node.pack() for node in nodes]
    if marked:
        attributes.append(pack(CTA.MARK, b"\0\0\0\5"))
    without = b"".join(attributes)
    index = {"first": 0, "between": 2, "last": len(attributes)}.get(where)
    if index is not None:
        attributes.insert(index, pack(CTA.TIMESTAMP_EVENT, bytes(7) + b"\1"))
    message = seeds.message(b"\2\0\0\0" + b"".join(attributes), *kind)
    kinds = {_NEW: EventType.NEW, _UPDATE: EventType.UPDATE}
    decoder = Decoder(FlowEvent, "", lambda *head: {"type": kinds[head]}, port_id_field="port_id")
    for _ in range(2):
        event = decoder.one(message)
    assert event.timestamp == (None if index is None else 1)
    formats = States()
    event = decoder.one(message)
    record, _ = (formats.read_new if kind == _NEW else formats.read)(event.flow)
    assert isinstance(record, bytes)
    expected = decoded(without)
    assert expected is not None
    if kind == _NEW:
        expected.mark = expected.mark or 0
    assert formats.flow_of(record) == expected


def test_a_flow_that_a_program_changed_is_no_record() -> None:
    flow = decoded(seeds.FLOWS[0][_HEADERS_SIZE:])
    assert flow is not None
    flow.mark = 77
    formats = States()
    state = formats.read(flow)[0]
    assert state is flow
    assert formats.new_flow(state) is not flow
    assert formats.new_flow(state) == flow


def test_the_flow_of_a_record_may_be_changed() -> None:
    flow = decoded(seeds.FLOWS[0][_HEADERS_SIZE:])
    assert flow is not None
    formats = States()
    state = formats.read(flow)[0]
    changed = formats.new_flow(state)
    changed.mark, changed.orig = 77, changed.reply
    assert formats.flow_of(state) == decoded(seeds.FLOWS[0][_HEADERS_SIZE:])


def test_the_number_of_formats_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries that would need more formats are flows. The results are the same."""
    monkeypatch.setattr(states, "_MAX_FORMATS", 3)
    formats, kinds = States(), set[type]()
    for seed in seeds.FLOWS:
        attributes = seed[_HEADERS_SIZE:]
        flow, expected = decoded(attributes), decoded(attributes)
        assert flow is not None
        state = formats.read(flow)[0]
        kinds.add(type(state))
        assert formats.flow_of(state) == expected
    assert bytes in kinds
    assert kinds != {bytes}
    assert len(formats._by_skeleton) == 3
