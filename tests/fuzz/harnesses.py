"""Harnesses: functions that run one part of the library on an input and check the result.

A harness returns if the input breaks no rule. Otherwise it raises.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from support.codec_cases import CASES, TCP4
from support.hexdumps import parse_hexdump

from conntrack_aio.codec import decoder as decoders
from conntrack_aio.codec.decoder import Datagram, Decoder, pack_seq
from conntrack_aio.codec.entry_count import entry_count_of
from conntrack_aio.codec.expectation_messages import expectation_of
from conntrack_aio.codec.json import from_dict, to_dict
from conntrack_aio.codec.json_lines import to_json
from conntrack_aio.codec.messages import flow_of
from conntrack_aio.codec.policy_messages import default_timeouts_of, helper_of, timeout_policy_of
from conntrack_aio.codec.reference import decode, encode
from conntrack_aio.codec.requests import expectations, flows, statistics
from conntrack_aio.codec.statistics_messages import table_statistics_of
from conntrack_aio.errors import DecodeError, EncodeError, KernelError, NoReply
from conntrack_aio.model.client_statistics import ClientStatistics
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.exchange import Exchange, Request
from conntrack_aio.netlink.messages import Message
from conntrack_aio.netlink.pipeline import RequestWindow
from conntrack_aio.netlink.recvmmsg import MessageVector
from conntrack_aio.netlink.socket import RECEIVE_SIZE
from conntrack_aio.trace.message import render
from conntrack_aio.uapi.netlink import NETLINK

from . import socket_script
from .seeds import DECODERS
from .socket_script import Script, ScriptedSocketFactory, StepKind

Items = list[Any]

CLASSES = sorted({type(case.object) for case in CASES}, key=lambda cls: cls.__name__)
"""The classes of the model, by name."""


# -- layouts compared with the reference ------------------------------------------------------


def comparable(items: Iterable[Any]) -> Items:
    return [
        (type(item), item.reason, item.path) if isinstance(item, DecodeError) else item
        for item in items
    ]


def decode_by_reference(decoder: Decoder[Any], data: bytes, seq: int | None) -> Items:
    """Return all items of a datagram, including errors, as the reference decoder reads them."""
    items: Items = []
    try:
        for message in messages.walk(data, len(data)):
            if seq is not None and message.seq != seq:
                continue
            try:
                items.append(decoder(data, message))
            except DecodeError as error:
                items.append(error)
    except DecodeError as error:
        items.append(error)
    return items


def decode_by_layouts(decoder: Decoder[Any], data: bytes, seq: int | None) -> Items:
    """Return all items of a datagram, including errors, as streams and dumps read them."""
    wanted = None if seq is None else pack_seq(seq)
    counters = ClientStatistics()
    datagram = Datagram(data)
    items: Items = []

    def takes(buffer: bytes, message: Message) -> bool:
        return seq is None or message.seq == seq

    try:
        while not datagram.done:
            portion: Items = []
            before = datagram.offset
            try:
                decoder.read(datagram, takes, wanted, portion, counters)
            finally:
                assert len(portion) <= decoders.BATCH
                items += portion
            assert datagram.offset > before
    except DecodeError as error:
        items.append(error)
    return items


def layouts(data: bytes) -> None:
    """Check that layouts decode a datagram as the reference does.

    They decode it twice, because layouts learn from each message. The first byte chooses the kind
    of message.
    """
    option = data[0] if data else 0
    decoder, _ = DECODERS[option % len(DECODERS)]
    seq = 1 if option & 0x40 else None
    data = data[1:]
    expected = decode_by_reference(decoder, data, seq)
    wanted = comparable(expected)
    for _ in range(2):
        got = decode_by_layouts(decoder, data, seq)
        assert comparable(got) == wanted
        if option & 0x80:  # == does not distinguish a member of an enum from its number
            assert repr(got) == repr(expected)
    for first in messages.walk(data, len(data)) if not _ends_with_error(expected) else ():
        first_message = data[first.start - messages.HEADER_SIZE : first.end]
        try:
            one = decoder.one(first_message)
        except DecodeError as error:
            one = error
        alone = decode_by_reference(decoder, first_message, None)
        if not isinstance(one, DecodeError):
            lines(decoder.one(first_message), alone[0])
        assert comparable([one]) == comparable(alone)
        break
    for item in expected[:4]:
        if not isinstance(item, DecodeError):
            roundtrip(item)


def lines(new: Any, expected: Any) -> None:
    """Check that an object is written from its message as the reference writes it.

    :param new: the object, of which nothing was read.
    :param expected: the same object, as the reference decodes it.
    """
    written = json.dumps(to_dict(expected))
    assert to_json(new) == written
    assert str(new) == str(expected)  # before its fields are read
    assert to_json(expected) == written


def _ends_with_error(items: Items) -> bool:
    return bool(items) and isinstance(items[-1], DecodeError)


def roundtrip(item: Any) -> None:
    """Check that an item is unchanged by JSON, and by encoding if it can be encoded."""
    text = json.dumps(to_dict(item))
    assert from_dict(type(item), json.loads(text)) == item
    str(item)
    try:
        data = encode(item)
    except EncodeError:
        return
    plain = {
        name: getattr(item, name) for name in ("type", "port_id", "cpu") if hasattr(item, name)
    }
    again = decode(type(item), data, 0, len(data), **plain)
    assert again == item
    assert encode(again) == data


# -- the trace --------------------------------------------------------------------------------


def trace(data: bytes) -> None:
    """Check that the trace of a datagram shows all of its bytes.

    The first byte chooses the protocol, and whether the datagram is a reply.
    """
    option = data[0] if data else 0
    data = data[1:]
    proto = NETLINK.ROUTE if option & 1 else NETLINK.NETFILTER
    rest = data
    for text in render("recv", data, proto, from_kernel=bool(option & 2)):
        assert text.startswith("recv ")
        text.encode()
        dumped = parse_hexdump(text.split("\n"))
        assert rest.startswith(dumped)
        rest = rest[(len(dumped) + 3) & ~3 :]  # the trace does not show padding
    assert not rest


# -- replies to requests ----------------------------------------------------------------------

_REQUESTS: list[Request] = [
    flows.get(TCP4),
    flows.delete(TCP4),
    flows.update(TCP4, {"mark": 1}),
    statistics.table_statistics(),
    expectations.get(TCP4),
]
_READERS = (
    flow_of,
    expectation_of,
    timeout_policy_of,
    helper_of,
    table_statistics_of,
    entry_count_of,
    default_timeouts_of,
)


def request_replies(data: bytes) -> None:
    """Check that all requests on a socket get outcomes that can be read.

    The requests of an exchange are followed by those of a request window.
    """
    option, steps = socket_script.unpack(data)
    exchange = Exchange(_REQUESTS[: 1 + option % len(_REQUESTS)], 1)
    window = RequestWindow([request.pack(0) for request in _REQUESTS], 1 + len(exchange.requests))
    exchange.following = window
    for step in steps:
        try:
            exchange.feed(step.data, len(step.data))
        except DecodeError:
            exchange.lossy = True
        exchange.note_drained()
    assert exchange.open == exchange.completions.count(None)
    assert window.open == window.completions.count(None)
    for response in exchange.responses:
        try:
            replies = response.result()
        except (KernelError, NoReply) as error:
            str(error)
            continue
        for reply in replies:
            for read in _READERS:
                try:
                    read(reply)
                except DecodeError as error:
                    str(error)


# -- several datagrams in one call ------------------------------------------------------------

_vector = MessageVector(32, RECEIVE_SIZE)


def message_vectors(data: bytes) -> None:
    """Check that datagrams received in one call give the same items as one by one."""
    option, steps = socket_script.unpack(data)
    socket = ScriptedSocketFactory(Script([], endless=False)).open()
    decoder, _ = DECODERS[option % len(DECODERS)]
    wanted: Items = []
    steps = steps[: _vector.count]
    for at, (kind, datagram, _) in enumerate(steps):
        size = RECEIVE_SIZE + 1 if kind == StepKind.TOO_LARGE else len(datagram)
        start = _vector.offsets[at]
        _vector.view[start : start + len(datagram)] = datagram
        _vector.lengths[at] = size
        _vector.port_ids[at] = 4711 if kind == StepKind.FORGED else 0
        if kind == StepKind.TOO_LARGE:
            wanted.append(DecodeError)
        elif kind != StepKind.FORGED:
            wanted += comparable(decode_by_layouts(decoder, datagram, None))
    got: Items = []
    for datagram_or_error in socket.take(_vector, len(steps)):
        if isinstance(datagram_or_error, DecodeError):
            got.append(DecodeError)
        else:
            got += comparable(decode_by_layouts(decoder, datagram_or_error, None))
    assert got == wanted
    assert socket.forged + socket.datagrams_received == len(steps)


# -- JSON -------------------------------------------------------------------------------------


def json_texts(data: bytes) -> None:
    """Check that JSON is either refused, or read as an object that is written as it was read.

    The first byte chooses the class.
    """
    cls = CLASSES[data[0] % len(CLASSES)] if data else CLASSES[0]
    try:
        document = json.loads(data[1:])
    except (ValueError, RecursionError):
        return
    try:
        obj: Any = from_dict(cls, document)
    except DecodeError as error:
        str(error)
        return
    assert from_dict(cls, json.loads(json.dumps(to_dict(obj)))) == obj
    str(obj)
    try:
        encode(obj)
    except EncodeError as error:
        str(error)
