"""The seeds of the fuzzer: captured messages, encoded cases, and scripts that consist of both."""

from __future__ import annotations

import errno
import json
import struct
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

from support.attribute_encoding import attr
from support.captured import CAPTURED, EXPECTATIONS, STATISTICS
from support.codec_cases import CASES, be32

from conntrack_aio import Flow, FlowEvent
from conntrack_aio.codec.decoder import Decoder
from conntrack_aio.codec.event_messages import decode_event
from conntrack_aio.codec.expectation_messages import (
    decode_expect_cpu_statistics,
    decode_expect_event,
    decode_expectation,
)
from conntrack_aio.codec.json import to_dict
from conntrack_aio.codec.messages import decode_flow
from conntrack_aio.codec.policy_messages import decode_helper, decode_timeout_policy
from conntrack_aio.codec.statistics_messages import decode_cpu_statistics
from conntrack_aio.model.expectations import Expectation
from conntrack_aio.model.helpers import UserspaceHelper
from conntrack_aio.model.requests import ExpectRequestOnly, RequestOnly
from conntrack_aio.model.statistics import CPUStatistics, ExpectCPUStatistics, TableStatistics
from conntrack_aio.model.timeouts import TimeoutPolicy
from conntrack_aio.netlink import messages
from conntrack_aio.uapi.netlink import NLM_F
from conntrack_aio.uapi.rtnetlink import RTM

from . import socket_script
from .socket_script import Step, StepKind

_MULTI, _NEW = 2, 0x600


def message(payload: bytes, kind: int, flags: int = _MULTI, seq: int = 1) -> bytes:
    return messages.pack(kind, flags, seq, payload)


def _case_messages(cls: type, kind: int, flags: int = _MULTI) -> list[bytes]:
    found = [case.data for case in CASES if type(case.object) is cls]
    return [message(b"\2\0\0\0" + data, kind, flags) for data in found]


def with_seq(data: bytes, seq: int) -> bytes:
    return data[:8] + struct.pack("=I", seq) + data[12:]


def _captured(events: bool) -> list[bytes]:
    return [with_seq(c.data, 1) for c in CAPTURED if (c.event is not None) == events]


FLOWS = _captured(False) + _case_messages(Flow, 0x100)
EVENTS = [with_seq(data, 0) for data in _captured(True)]
EVENTS += _case_messages(FlowEvent, 0x100, _NEW) + _case_messages(Flow, 0x102, 0)
EXPECTED = [with_seq(c.data, 1) for c in EXPECTATIONS if c.event is None]
EXPECTED += _case_messages(Expectation, 0x200)
EXPECT_EVENTS = [c.data for c in EXPECTATIONS if c.event is not None]
EXPECT_EVENTS += _case_messages(Expectation, 0x202, 0)
POLICIES = _case_messages(TimeoutPolicy, 0x800)
HELPERS = _case_messages(UserspaceHelper, 0x900)
CPU_STATISTICS = [with_seq(STATISTICS, 1), *_case_messages(CPUStatistics, 0x104)]
EXPECT_CPU_STATISTICS = _case_messages(ExpectCPUStatistics, 0x203)
TABLE_STATISTICS = _case_messages(TableStatistics, 0x105)
REQUESTS = _case_messages(RequestOnly, 0x101, 5) + _case_messages(ExpectRequestOnly, 0x201, 5)

DECODERS: Sequence[tuple[Decoder[Any], list[bytes]]] = (
    (decode_flow, FLOWS),
    (decode_event, EVENTS),
    (decode_expectation, EXPECTED),
    (decode_expect_event, EXPECT_EVENTS),
    (decode_timeout_policy, POLICIES),
    (decode_helper, HELPERS),
    (decode_cpu_statistics, CPU_STATISTICS),
    (decode_expect_cpu_statistics, EXPECT_CPU_STATISTICS),
)


def error_message(
    code: int, seq: int = 1, extended_ack: bytes = b"", echoed: bytes | None = None
) -> bytes:
    """Return an NLMSG_ERROR.

    :param extended_ack: the attributes of the extended acknowledgement.
    :param echoed: the payload of the request; by default the message is capped.
    """
    flags = (NLM_F.ACK_TLVS if extended_ack else 0) | (NLM_F.CAPPED if echoed is None else 0)
    request = struct.pack("=IHHII", 20 + len(echoed or b""), 0x101, 5, seq, 0)
    return message(
        struct.pack("=i", -code) + request + (echoed or b"") + extended_ack, 2, flags, seq
    )


def done(code: int = 0, extended_ack: bytes = b"", seq: int = 1) -> bytes:
    flags = _MULTI | (NLM_F.ACK_TLVS if extended_ack else 0)
    return message(struct.pack("=i", -code) + extended_ack, 3, flags, seq)


EXTENDED_ACK = attr(1, b"No such thing\0") + attr(2, struct.pack("=I", 24)) + attr(3, b"cookie")
ERROR_MESSAGES = [
    *map(error_message, (0, errno.ENOENT, errno.EPERM, errno.EEXIST, errno.EINVAL, errno.EBUSY)),
    error_message(errno.EINVAL, extended_ack=EXTENDED_ACK),
    error_message(errno.EINVAL, extended_ack=EXTENDED_ACK, echoed=FLOWS[0][16:]),
    error_message(0, extended_ack=attr(1, b"\xff\xfe\0")),
    error_message(1 << 31),
    error_message(-5),
    done(),
    done(errno.EAGAIN),
    done(errno.EINVAL, EXTENDED_ACK),
    message(b"", 3),
    message(b"\2\0\0\0" + struct.pack("=HHi", 8, 1, 5), RTM.NEWNSID, 0),
]
NOTIFICATIONS = [
    message(bytes(4) + struct.pack("=HHi", 8, 1, id), kind, 0, seq)
    for kind in (RTM.NEWNSID, RTM.DELNSID)
    for id in (-1, 0, 1, 2)
    for seq in (0, 1)
]
ALL_MESSAGES = (
    [data for _, known in DECODERS for data in known]
    + ERROR_MESSAGES
    + TABLE_STATISTICS
    + REQUESTS
    + NOTIFICATIONS
)

DATAGRAMS = [
    *ALL_MESSAGES,
    *[b"".join(known) for _, known in DECODERS],
    *[known[0] * 40 for _, known in DECODERS],
    FLOWS[1] * 60 + FLOWS[0] * 40 + done(),
    EVENTS[0] * 33 + EVENTS[1] + EVENTS[0] * 33,
]
"""The seeds of the harnesses that read one datagram."""


# -- conversations: scripts with all replies to some requests ---------------------------------


def _datagrams(parts: Iterable[bytes]) -> list[Step]:
    return [Step(StepKind.DATAGRAM, part) for part in parts]


def _replies_with_acks(*parts: bytes) -> list[Step]:
    """Return steps that reply to each request with one of these messages and an acknowledgement."""
    pairs = zip(parts, count(1), strict=False)
    return _datagrams(with_seq(part, seq) + error_message(0, seq) for part, seq in pairs)


def _numbered_datagrams(first: int, parts: Iterable[bytes]) -> list[Step]:
    return _datagrams(with_seq(part, seq) for part, seq in zip(parts, count(first), strict=False))


def _acks(first: int, times: int) -> list[Step]:
    return _datagrams(error_message(0, seq) for seq in range(first, first + times))


_INTERRUPTED = FLOWS[0][:6] + struct.pack("=H", _MULTI | NLM_F.DUMP_INTR) + FLOWS[0][8:]

CONVERSATIONS: Sequence[Sequence[Step]] = (
    [],
    _replies_with_acks(*FLOWS[:3]),
    _acks(1, 4),
    _acks(1, 1) + _replies_with_acks(FLOWS[0], FLOWS[0], FLOWS[0])[1:],
    _replies_with_acks(FLOWS[0]) + _acks(2, 3),
    _replies_with_acks(EXPECTED[0], EXPECTED[0]) + _acks(3, 2),
    _acks(1, 1) + _replies_with_acks(EXPECTED[0], EXPECTED[0])[1:],
    _replies_with_acks(POLICIES[0], POLICIES[0], POLICIES[0]),
    _acks(1, 1) + _replies_with_acks(HELPERS[0], HELPERS[0])[1:],
    _replies_with_acks(TABLE_STATISTICS[0]),
    _replies_with_acks(message(b"\2\0\0\0" + attr(4, be32(1, 5), 0x8000) + attr(3, b"\6"), 0x804)),
    _numbered_datagrams(1, ERROR_MESSAGES),
    _numbered_datagrams(2, ERROR_MESSAGES),
    *(
        [*_datagrams([b"".join(known), *known]), Step(StepKind.DATAGRAM, end)]
        for _, known in DECODERS
        for end in (done(), error_message(0), done(errno.EINVAL, EXTENDED_ACK), done(errno.ENOENT))
    ),
    [*_datagrams([_INTERRUPTED, FLOWS[1]]), Step(StepKind.DATAGRAM, done())],
    [*_datagrams([FLOWS[0] * 40, FLOWS[1] * 60 + done()])],
    [*_datagrams([FLOWS[0]]), Step(StepKind.TOO_LARGE), *_datagrams([done()])],
    [*_datagrams([FLOWS[0] + done()]), *_replies_with_acks(FLOWS[0]), *_acks(1, 3)],
)


def _without_padding(data: bytes) -> bytes:
    """Return a message whose length is no multiple of 4, unlike those of the kernel."""
    return (len(data) - 3).to_bytes(4, "little") + data[4:-3]


STREAMS: Sequence[Sequence[Step]] = (
    _datagrams(map(_without_padding, EVENTS)),
    _datagrams(EVENTS),
    _datagrams(EXPECT_EVENTS),
    [Step(StepKind.OVERRUN), *_datagrams(EVENTS)],
    [*_datagrams(EVENTS[:2]), Step(StepKind.OVERRUN), Step(StepKind.NOTHING), *_datagrams(EVENTS)],
    [Step(StepKind.OVERRUN), *_datagrams(EVENTS * 3), Step(StepKind.OVERRUN), *_datagrams(EVENTS)],
    [
        Step(StepKind.FORGED, EVENTS[0]),
        Step(StepKind.TOO_LARGE),
        Step(StepKind.DATAGRAM, EVENTS[0] * 40),
    ],
    [
        step
        for at, data in enumerate(EVENTS)
        for step in (
            Step(StepKind.NOTIFICATION, NOTIFICATIONS[at % len(NOTIFICATIONS)]),
            Step(StepKind.OTHER_NETNS, data),
            Step(
                StepKind.RTNETLINK_REPLY,
                with_seq(NOTIFICATIONS[1], at + 1) + error_message(0, at + 1),
            ),
        )
    ],
)


# -- live tables: scripts of events, dumps, replies and user actions --------------------------


def _table_script(
    events: Sequence[bytes] = (),
    dumps: Sequence[bytes] = (),
    replies: Sequence[bytes] = (),
    actions: Sequence[int] = (),
) -> list[Step]:
    """Return a script with these steps. An empty datagram becomes ``NOTHING``."""
    parts = (events, dumps, replies, [bytes([act, 7]) for act in actions])
    return [
        Step(StepKind.DATAGRAM if data else StepKind.NOTHING, data, to)
        for to, part in enumerate(parts)
        for data in part
    ]


def _destroy_event(data: bytes) -> bytes:
    """Return the message as a destroy event."""
    return data[:4] + struct.pack("=HHI", 0x102, 0, 0) + data[12:]


def _update_event(data: bytes, flags: int = 0) -> bytes:
    """Return the message as an update event, or with the flags of a new event as that."""
    return data[:4] + struct.pack("=HHI", 0x100, flags, 0) + data[12:]


def _table_conversations(flows: Sequence[bytes], events: Sequence[bytes]) -> list[list[Step]]:
    """Return scripts about these flows, and events of these and other flows."""
    everything, end, wait = b"".join(flows), done(), b""
    later = [part for data in events for part in (data, wait)]
    lives = [
        part
        for data in flows
        for part in (
            _update_event(data, _NEW),
            wait,
            _update_event(data),
            wait,
            _destroy_event(data),
        )
    ]
    replies = [data + error_message(0) for data in flows]
    actions = [1, 0, 3, 6, 0, 2, 4, 0, 9, 1, 3, 0, 8, 0, 1, 6, 2]
    twice = _table_script(later, [everything, end, wait, everything, end], replies, actions)
    failing = [flows[0], wait, flows[1] + done(errno.ENOMEM), wait, done(errno.EPERM)]
    return [
        _table_script(events, [everything, end], replies, [1, 6]),
        twice,
        [part for step in twice for part in (Step(StepKind.OVERRUN), step)][:-30],
        _table_script(later, [end], [], actions),
        _table_script([_update_event(data) for data in flows], [], replies, [1, 3, 6, 2, 6]),
        _table_script(
            lives, [*flows, end, wait, everything, end, wait, *flows[::-1]], replies, actions
        ),
        _table_script(later, failing, [], [1]),
        _table_script(
            events * 2,
            [_INTERRUPTED, end, wait, everything + end],
            ERROR_MESSAGES,
            [*actions, 10, 1],
        ),
        _table_script(later, [everything + end], ERROR_MESSAGES, [*actions[:6], 11, 1]),
    ]


TABLE_SCRIPTS = [
    conversation
    for first in range(3)
    for conversation in _table_conversations(FLOWS[first::6], EVENTS[first::5] + EVENTS[:2])
]


def scripts(conversations: Iterable[Sequence[Step]], options: Sequence[int]) -> list[bytes]:
    """Return each conversation, packed with each of these options."""
    return [socket_script.pack(steps, option) for steps in conversations for option in options]


JSON_TEXTS = [(type(case.object), json.dumps(to_dict(case.object)).encode()) for case in CASES]
"""Objects of the model as JSON, each with its class."""
