"""What inputs are made of at first: the captured messages, the cases, and conversations of both."""

from __future__ import annotations

import errno
import json
import struct
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

from support.captured import CAPTURED, EXPECTATIONS, STATISTICS
from support.cases import CASES, be32
from support.wire import attr

from conntrack_aio import Flow, FlowEvent
from conntrack_aio.codec.decoder import Decoder
from conntrack_aio.codec.json import to_dict
from conntrack_aio.codec.messages import (
    decode_cpu_statistics,
    decode_event,
    decode_expect_cpu_statistics,
    decode_expect_event,
    decode_expectation,
    decode_flow,
    decode_helper,
    decode_timeout_policy,
)
from conntrack_aio.model.expectations import Expectation
from conntrack_aio.model.helpers import UserspaceHelper
from conntrack_aio.model.requests import ExpectRequestOnly, RequestOnly
from conntrack_aio.model.statistics import CPUStatistics, ExpectCPUStatistics, TableStatistics
from conntrack_aio.model.timeouts import TimeoutPolicy
from conntrack_aio.netlink import messages
from conntrack_aio.uapi.netlink import NLM_F
from conntrack_aio.uapi.rtnetlink import RTM

from . import script
from .script import Step, What

_MULTI, _NEW = 2, 0x600


def message(payload: bytes, kind: int, flags: int = _MULTI, seq: int = 1) -> bytes:
    return messages.pack(kind, flags, seq, payload)


def _of_cases(cls: type, kind: int, flags: int = _MULTI) -> list[bytes]:
    found = [case.data for case in CASES if type(case.object) is cls]
    return [message(b"\2\0\0\0" + data, kind, flags) for data in found]


def numbered(data: bytes, seq: int) -> bytes:
    return data[:8] + struct.pack("=I", seq) + data[12:]


def _captured(events: bool) -> list[bytes]:
    return [numbered(c.data, 1) for c in CAPTURED if (c.event is not None) == events]


FLOWS = _captured(False) + _of_cases(Flow, 0x100)
EVENTS = [numbered(data, 0) for data in _captured(True)]
EVENTS += _of_cases(FlowEvent, 0x100, _NEW) + _of_cases(Flow, 0x102, 0)
EXPECTED = [numbered(c.data, 1) for c in EXPECTATIONS if c.event is None]
EXPECTED += _of_cases(Expectation, 0x200)
EXPECT_EVENTS = [c.data for c in EXPECTATIONS if c.event is not None]
EXPECT_EVENTS += _of_cases(Expectation, 0x202, 0)
POLICIES = _of_cases(TimeoutPolicy, 0x800)
HELPERS = _of_cases(UserspaceHelper, 0x900)
CPU = [numbered(STATISTICS, 1), *_of_cases(CPUStatistics, 0x104)]
EXPECT_CPU = _of_cases(ExpectCPUStatistics, 0x203)
GLOBAL = _of_cases(TableStatistics, 0x105)
REQUESTS = _of_cases(RequestOnly, 0x101, 5) + _of_cases(ExpectRequestOnly, 0x201, 5)

DECODERS: Sequence[tuple[Decoder[Any], list[bytes]]] = (
    (decode_flow, FLOWS),
    (decode_event, EVENTS),
    (decode_expectation, EXPECTED),
    (decode_expect_event, EXPECT_EVENTS),
    (decode_timeout_policy, POLICIES),
    (decode_helper, HELPERS),
    (decode_cpu_statistics, CPU),
    (decode_expect_cpu_statistics, EXPECT_CPU),
)


def verdict(code: int, seq: int = 1, words: bytes = b"", echoed: bytes | None = None) -> bytes:
    """An NLMSG_ERROR, capped unless what was asked is echoed."""
    flags = (NLM_F.ACK_TLVS if words else 0) | (NLM_F.CAPPED if echoed is None else 0)
    request = struct.pack("=IHHII", 20 + len(echoed or b""), 0x101, 5, seq, 0)
    return message(struct.pack("=i", -code) + request + (echoed or b"") + words, 2, flags, seq)


def done(code: int = 0, words: bytes = b"", seq: int = 1) -> bytes:
    flags = _MULTI | (NLM_F.ACK_TLVS if words else 0)
    return message(struct.pack("=i", -code) + words, 3, flags, seq)


WORDS = attr(1, b"No such thing\0") + attr(2, struct.pack("=I", 24)) + attr(3, b"cookie")
VERDICTS = [
    *map(verdict, (0, errno.ENOENT, errno.EPERM, errno.EEXIST, errno.EINVAL, errno.EBUSY)),
    verdict(errno.EINVAL, words=WORDS),
    verdict(errno.EINVAL, words=WORDS, echoed=FLOWS[0][16:]),
    verdict(0, words=attr(1, b"\xff\xfe\0")),
    verdict(1 << 31),
    verdict(-5),
    done(),
    done(errno.EAGAIN),
    done(errno.EINVAL, WORDS),
    message(b"", 3),
    message(b"\2\0\0\0" + struct.pack("=HHi", 8, 1, 5), RTM.NEWNSID, 0),
]
NOTICES = [
    message(bytes(4) + struct.pack("=HHi", 8, 1, id), kind, 0, seq)
    for kind in (RTM.NEWNSID, RTM.DELNSID)
    for id in (-1, 0, 1, 2)
    for seq in (0, 1)
]
DONORS = [data for _, known in DECODERS for data in known] + VERDICTS + GLOBAL + REQUESTS + NOTICES

DATAGRAMS = [
    *DONORS,
    *[b"".join(known) for _, known in DECODERS],
    *[known[0] * 40 for _, known in DECODERS],
    FLOWS[1] * 60 + FLOWS[0] * 40 + done(),
    EVENTS[0] * 33 + EVENTS[1] + EVENTS[0] * 33,
]
"""For what reads a datagram."""


# Conversations: for each of them, all the messages that could come


def _datagrams(parts: Iterable[bytes]) -> list[Step]:
    return [Step(What.DATAGRAM, part) for part in parts]


def _answered(*parts: bytes) -> list[Step]:
    """Each request is answered with one of these, and acknowledged."""
    pairs = zip(parts, count(1), strict=False)
    return _datagrams(numbered(part, seq) + verdict(0, seq) for part, seq in pairs)


def _refused(first: int, parts: Iterable[bytes]) -> list[Step]:
    return _datagrams(numbered(part, seq) for part, seq in zip(parts, count(first), strict=False))


def _acknowledged(first: int, times: int) -> list[Step]:
    return _datagrams(verdict(0, seq) for seq in range(first, first + times))


_INTERRUPTED = FLOWS[0][:6] + struct.pack("=H", _MULTI | NLM_F.DUMP_INTR) + FLOWS[0][8:]

CONVERSATIONS: Sequence[Sequence[Step]] = (
    [],
    _answered(*FLOWS[:3]),
    _acknowledged(1, 4),
    _acknowledged(1, 1) + _answered(FLOWS[0], FLOWS[0], FLOWS[0])[1:],
    _answered(FLOWS[0]) + _acknowledged(2, 3),
    _answered(EXPECTED[0], EXPECTED[0]) + _acknowledged(3, 2),
    _acknowledged(1, 1) + _answered(EXPECTED[0], EXPECTED[0])[1:],
    _answered(POLICIES[0], POLICIES[0], POLICIES[0]),
    _acknowledged(1, 1) + _answered(HELPERS[0], HELPERS[0])[1:],
    _answered(GLOBAL[0]),
    _answered(message(b"\2\0\0\0" + attr(4, be32(1, 5), 0x8000) + attr(3, b"\6"), 0x804)),
    _refused(1, VERDICTS),
    _refused(2, VERDICTS),
    *(
        [*_datagrams([b"".join(known), *known]), Step(What.DATAGRAM, end)]
        for _, known in DECODERS
        for end in (done(), verdict(0), done(errno.EINVAL, WORDS), done(errno.ENOENT))
    ),
    [*_datagrams([_INTERRUPTED, FLOWS[1]]), Step(What.DATAGRAM, done())],
    [*_datagrams([FLOWS[0] * 40, FLOWS[1] * 60 + done()])],
    [*_datagrams([FLOWS[0]]), Step(What.TOO_LARGE), *_datagrams([done()])],
    [*_datagrams([FLOWS[0] + done()]), *_answered(FLOWS[0]), *_acknowledged(1, 3)],
)


def _unpadded(data: bytes) -> bytes:
    """A message that ends within a word, as none of the kernel's does."""
    return (len(data) - 3).to_bytes(4, "little") + data[4:-3]


STREAMS: Sequence[Sequence[Step]] = (
    _datagrams(map(_unpadded, EVENTS)),
    _datagrams(EVENTS),
    _datagrams(EXPECT_EVENTS),
    [Step(What.OVERRUN), *_datagrams(EVENTS)],
    [*_datagrams(EVENTS[:2]), Step(What.OVERRUN), Step(What.NOTHING), *_datagrams(EVENTS)],
    [Step(What.OVERRUN), *_datagrams(EVENTS * 3), Step(What.OVERRUN), *_datagrams(EVENTS)],
    [Step(What.FORGED, EVENTS[0]), Step(What.TOO_LARGE), Step(What.DATAGRAM, EVENTS[0] * 40)],
    [
        step
        for at, data in enumerate(EVENTS)
        for step in (
            Step(What.NOTICE, NOTICES[at % len(NOTICES)]),
            Step(What.ELSEWHERE, data),
            Step(What.ANSWER, numbered(NOTICES[1], at + 1) + verdict(0, at + 1)),
        )
    ],
)


# Live tables: events, dumps, answers, and what their user does, each by its own steps


def _table(
    events: Sequence[bytes] = (),
    dumps: Sequence[bytes] = (),
    answers: Sequence[bytes] = (),
    acts: Sequence[int] = (),
) -> list[Step]:
    """An empty datagram stands for ``NOTHING``."""
    parts = (events, dumps, answers, [bytes([act, 7]) for act in acts])
    return [
        Step(What.DATAGRAM if data else What.NOTHING, data, to)
        for to, part in enumerate(parts)
        for data in part
    ]


def _gone(data: bytes) -> bytes:
    """A destroy event of what is told of."""
    return data[:4] + struct.pack("=HHI", 0x102, 0, 0) + data[12:]


def _told(data: bytes, flags: int = 0) -> bytes:
    """An update event of it; or that it is new."""
    return data[:4] + struct.pack("=HHI", 0x100, flags, 0) + data[12:]


def _tables(flows: Sequence[bytes], events: Sequence[bytes]) -> list[list[Step]]:
    """Conversations about some flows, and events of those and others."""
    everything, end, wait = b"".join(flows), done(), b""
    later = [part for data in events for part in (data, wait)]
    lives = [
        part for data in flows for part in (_told(data, _NEW), wait, _told(data), wait, _gone(data))
    ]
    answers = [data + verdict(0) for data in flows]
    acts = [1, 0, 3, 6, 0, 2, 4, 0, 9, 1, 3, 0, 8, 0, 1, 6, 2]
    twice = _table(later, [everything, end, wait, everything, end], answers, acts)
    failing = [flows[0], wait, flows[1] + done(errno.ENOMEM), wait, done(errno.EPERM)]
    return [
        _table(events, [everything, end], answers, [1, 6]),
        twice,
        [part for step in twice for part in (Step(What.OVERRUN), step)][:-30],
        _table(later, [end], [], acts),
        _table([_told(data) for data in flows], [], answers, [1, 3, 6, 2, 6]),
        _table(lives, [*flows, end, wait, everything, end, wait, *flows[::-1]], answers, acts),
        _table(later, failing, [], [1]),
        _table(events * 2, [_INTERRUPTED, end, wait, everything + end], VERDICTS, [*acts, 10, 1]),
        _table(later, [everything + end], VERDICTS, [*acts[:6], 11, 1]),
    ]


TABLES = [
    conversation
    for first in range(3)
    for conversation in _tables(FLOWS[first::6], EVENTS[first::5] + EVENTS[:2])
]


def scripts(conversations: Iterable[Sequence[Step]], options: Sequence[int]) -> list[bytes]:
    """Each conversation with each of these numbers for its reader."""
    return [script.pack(steps, option) for steps in conversations for option in options]


TEXTS = [(type(case.object), json.dumps(to_dict(case.object)).encode()) for case in CASES]
"""Objects as JSON, each with its class."""
