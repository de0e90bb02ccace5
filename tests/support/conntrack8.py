"""Run conntrack(8), and compare what it prints with the flows of this library.

Both are reduced to *facts*: a dict from the names that conntrack(8) uses to values. The facts of
one entry differ only where the two programs disagree.
"""

from __future__ import annotations

import calendar
import re
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from enum import IntEnum
from ipaddress import ip_address

import anyio
import attrs

from conntrack_aio import Connection, EventType, Flow, FlowEvent, Status, Tuple
from conntrack_aio.model.protocols import ICMP, ICMPV6

from .lab import Lab
from .processes import TIMEOUT

Facts = dict[str, object]

LABELS = {0: "zero", 5: "five", 127: "last"}

# conntrack(8) reads the names of labels only from this file, and prints times in the local zone.
_SCRIPT = """
    mount -t tmpfs none /etc && mkdir /etc/xtables && echo "$LABELS" > /etc/xtables/connlabel.conf
    exec env TZ=UTC0 conntrack "$@"
"""
_LABELS = "\n".join(f"{bit} {name}" for bit, name in LABELS.items())
COMMAND = ("env", f"LABELS={_LABELS}", "unshare", "-m", "sh", "-ec", _SCRIPT, "conntrack")
"""The command that runs conntrack(8) with :data:`LABELS`, in a separate mount namespace."""

DETAILS = "extended,id,ktimestamp,labels"

SHOWS_LABELS = sys.byteorder == "little"
"""Whether conntrack(8) numbers the bits of labels as the kernel does.

On a big-endian machine it swaps the 32-bit halves of each word, and finds no name for most labels.
"""
_SCTP = 132
_EVENTS = frozenset(kind.name for kind in EventType)
_COUNTERS = ("packets", "bytes")
_KEYS = {"srckey": "sport", "dstkey": "dport"}
_DIRECTION_KEYS = frozenset({"sport", "dport", "type", "code", "id", *_COUNTERS})


def conntrack(lab: Lab, *arguments: str) -> str:
    """Run conntrack(8) in a namespace, and return its standard output."""
    return lab.program(*COMMAND, *arguments)


# -- facts that conntrack(8) prints --------------------------------------------------------------


def from_text(output: str) -> list[Facts]:
    """Return the facts of each line that ``-o extended,id,ktimestamp,labels`` prints.

    :param output: the output of ``-L`` or ``-E``.
    """
    return [_from_line(line) for line in output.splitlines()]


def _from_line(line: str) -> Facts:
    found: Facts = {}
    for name, moment in re.findall(r"\[(start|stop)=(.*?)\]", line):
        found[name] = calendar.timegm(time.strptime(moment))
    flags = frozenset(re.findall(r"\[(\w+)\]", line))
    found["status"] = flags - _EVENTS - {"USERSPACE"}
    if flags & _EVENTS:
        (found["event"],) = flags & _EVENTS
    words = re.sub(r"\[.*?\]", "", line).split()
    start = next(i for i, word in enumerate(words) if word.startswith("src="))
    _, family, _, protocol, *rest = words[:start]
    found |= {"family": int(family), "protocol": int(protocol)}
    for word in rest:
        found |= {"timeout": int(word)} if word.isdecimal() else {"state": word}
    # For labels without a name, conntrack(8) prints "labels" without a value.
    return found | _pairs([word.split("=", 1) for word in words[start:] if word != "labels"])


def _pairs(pairs: Sequence[Sequence[str]]) -> Facts:
    found: Facts = {}
    side = ""
    for key, value in pairs:
        key = _KEYS.get(key, key)
        if key == "src":
            side = "reply " if side else "orig "
        if key in ("src", "dst"):
            found[side + key] = ip_address(value)
        elif key == "id" and (f"{side}type" not in found or f"{side}id" in found):
            found["entry"] = int(value)  # the id of the entry, not of ICMP
        elif key in _DIRECTION_KEYS:
            found[side + key] = int(value, 0)
        elif key.startswith("zone-"):
            found[f"{key.removeprefix('zone-')} zone"] = int(value)
        elif key == "labels":
            found[key] = frozenset(value.split(","))
        elif key not in ("delta-time", "progname"):
            found[key] = value if key == "helper" else int(value)
    return found


def from_xml(output: str) -> list[Facts]:
    """Return the facts of each flow that ``-o xml`` prints.

    Unlike text, XML lacks the ICMP type, code and id, gives SCTP states the names of TCP states,
    and gives times in nanoseconds.
    """
    flows = [dict(_from_element(flow)) for flow in ET.fromstring(output or "<none/>")]
    for flow in flows:
        if flow["protocol"] == _SCTP:
            flow.pop("state", None)
    return flows


def _from_element(flow: ET.Element) -> Iterator[tuple[str, object]]:
    for meta in flow:
        if meta.tag == "helper":  # a sibling of the <meta> elements
            yield meta.tag, meta.text
            continue
        if meta.get("direction") == "independent":
            yield from _independent(meta)
            continue
        side = {"original": "orig ", "reply": "reply "}[meta.get("direction", "")]
        layer3, layer4 = meta.find("layer3"), meta.find("layer4")
        assert layer3 is not None
        assert layer4 is not None
        yield "family", int(layer3.attrib["protonum"])
        yield "protocol", int(layer4.attrib["protonum"])
        for element in layer3:
            yield side + element.tag, ip_address(element.text or "")
        for element in (*layer4, *meta.findall("counters/*"), *meta.findall("zone")):
            name = side + _KEYS.get(element.tag, element.tag)
            yield name, int(element.text or "", 0)


def _independent(meta: ET.Element) -> Iterator[tuple[str, object]]:
    flags = {"unreplied", "assured"}
    yield "status", frozenset(e.tag.upper() for e in meta if e.tag in flags)
    for element in meta:
        if element.tag == "labels":
            if SHOWS_LABELS:
                yield "labels", frozenset(label.text for label in element)
        elif element.tag == "timestamp":
            yield from ((e.tag, int(e.text or "")) for e in element)
        elif element.tag not in {*flags, "deltatime"}:
            text = element.text or ""
            name = "entry" if element.tag == "id" else element.tag
            yield name, int(text) if text.isdecimal() else text


# -- facts that conntrack(8) must print ----------------------------------------------------------


def expected_facts(flow: Flow, *, xml: bool = False) -> Facts:
    """Return the facts that conntrack(8) must print of a flow, as text or as XML."""
    expected: Facts = {
        "family": {4: 2, 6: 10}[flow.orig.src.version],
        "protocol": flow.orig.proto,
        "status": frozenset(_status(flow.status or Status(0))),
        "timeout": flow.timeout,
        "mark": flow.mark,
        "zone": flow.zone,
        "use": flow.use,
        "entry": flow.id,
        "helper": flow.helper and flow.helper.name,
    }
    state = getattr(flow.protoinfo, "state", None)
    if isinstance(state, IntEnum) and not (xml and flow.orig.proto == _SCTP):
        expected["state"] = state.name
    for side, tuple_, counters in (
        ("orig", flow.orig, flow.counters_orig),
        ("reply", flow.reply, flow.counters_reply),
    ):
        expected |= {f"{side} {name}": value for name, value in _direction(tuple_, xml).items()}
        for name in _COUNTERS:
            expected[f"{side} {name}"] = getattr(counters, name, None)
    if flow.labels is not None and SHOWS_LABELS:
        bits = (bit for bit in range(128) if flow.labels >> bit & 1)
        expected["labels"] = frozenset(LABELS[bit] for bit in bits)
    if flow.timestamp is not None:
        for name in ("start", "stop"):
            moment = getattr(flow.timestamp, name)
            expected[name] = moment if xml or moment is None else moment // 1_000_000_000
    return {name: value for name, value in expected.items() if value is not None}


def expected_event_facts(event: FlowEvent) -> Facts:
    """Return the facts that ``conntrack -E`` must print of an event, as text."""
    expected = expected_facts(event.flow) | {"event": event.type.name}
    return expected | {"portid": event.port_id} if event.port_id else expected


def _status(status: Status) -> Iterator[str]:
    if not status & Status.SEEN_REPLY:
        yield "UNREPLIED"
    for bit in (Status.HW_OFFLOAD, Status.OFFLOAD, Status.ASSURED):
        if status & bit:
            yield str(bit.name)
            return


def _direction(tuple_: Tuple, xml: bool) -> Facts:
    expected: Facts = {
        "src": tuple_.src,
        "dst": tuple_.dst,
        "sport": tuple_.sport,
        "dport": tuple_.dport,
        "zone": tuple_.zone,
    }
    if tuple_.proto in (ICMP, ICMPV6) and not xml:
        expected |= {"type": tuple_.icmp_type, "code": tuple_.icmp_code, "id": tuple_.icmp_id}
    return expected


# -- comparison ----------------------------------------------------------------------------------


async def check_listing(lab: Lab, conn: Connection) -> list[Flow]:
    """Check that conntrack(8) lists the same flows as this library, with the same facts.

    conntrack(8) lists between two lists by this library. That is repeated until both lists are
    equal except for timeouts.

    :returns: the flows that the library lists.
    """
    with anyio.fail_after(TIMEOUT):
        while True:
            before = await conn.list()
            lines = conntrack(lab, "-L", "-o", DETAILS)
            elements = conntrack(lab, "-L", "-o", f"xml,{DETAILS}")
            after = await conn.list()
            if _by_entry(before) == _by_entry(after):
                break
    _compare(from_text(lines), before, after, xml=False)
    _compare(from_xml(elements), before, after, xml=True)
    return after


def _by_entry(flows: list[Flow]) -> dict[int | None, Flow]:
    return {flow.id: attrs.evolve(flow, timeout=None) for flow in flows}


def _compare(theirs: list[Facts], before: list[Flow], after: list[Flow], *, xml: bool) -> None:
    ours = {flow.id: expected_facts(flow, xml=xml) for flow in before}
    later = {flow.id: expected_facts(flow, xml=xml) for flow in after}
    for found in theirs:
        entry = found["entry"]
        assert isinstance(entry, int)
        expected = ours.pop(entry)
        seconds = [one.pop("timeout", 0) for one in (expected, found, later[entry])]
        assert seconds == sorted(seconds, reverse=True), found
        assert found == expected
    assert not ours
