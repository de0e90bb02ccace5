"""conntrack(8): running it, and what it says of flows as facts that can be compared.

Of a flow of ours the same facts are made, so that two of them differ in what the programs see
differently and in nothing else.
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
from conntrack_aio.model.tuples import ICMP, ICMPV6

from .lab import Lab
from .processes import TIMEOUT

Facts = dict[str, object]

LABELS = {0: "zero", 5: "five", 127: "last"}

# It reads the labels' names from this one place, and writes times for people in their zone.
_SCRIPT = """
    mount -t tmpfs none /etc && mkdir /etc/xtables && echo "$LABELS" > /etc/xtables/connlabel.conf
    exec env TZ=UTC0 conntrack "$@"
"""
_LABELS = "\n".join(f"{bit} {name}" for bit, name in LABELS.items())
COMMAND = ("env", f"LABELS={_LABELS}", "unshare", "-m", "sh", "-ec", _SCRIPT, "conntrack")
"""conntrack(8) with :data:`LABELS`, in a mount namespace of its own."""

DETAILS = "extended,id,ktimestamp,labels"

SHOWS_LABELS = sys.byteorder == "little"
"""Whether it counts the bits of labels as the kernel does. On a big-endian machine it takes the
halves of a word in the wrong order, and finds no name for most."""
_SCTP = 132
_EVENTS = frozenset(kind.name for kind in EventType)
_COUNTERS = ("packets", "bytes")
_KEYS = {"srckey": "sport", "dstkey": "dport"}
_DIRECTION_KEYS = frozenset({"sport", "dport", "type", "code", "id", *_COUNTERS})


def conntrack(lab: Lab, *arguments: str) -> str:
    """Run it in the namespace."""
    return lab.program(*COMMAND, *arguments)


# What it says


def from_text(output: str) -> list[Facts]:
    """The lines of ``-o extended,id,ktimestamp,labels``, of a list or of events."""
    return [_from_line(line) for line in output.splitlines()]


def _from_line(line: str) -> Facts:
    said: Facts = {}
    for name, moment in re.findall(r"\[(start|stop)=(.*?)\]", line):
        said[name] = calendar.timegm(time.strptime(moment))
    told = frozenset(re.findall(r"\[(\w+)\]", line))
    said["status"] = told - _EVENTS - {"USERSPACE"}
    if told & _EVENTS:
        (said["event"],) = told & _EVENTS
    words = re.sub(r"\[.*?\]", "", line).split()
    start = next(i for i, word in enumerate(words) if word.startswith("src="))
    _, family, _, protocol, *rest = words[:start]
    said |= {"family": int(family), "protocol": int(protocol)}
    for word in rest:
        said |= {"timeout": int(word)} if word.isdecimal() else {"state": word}
    # Of labels without a name it has the key alone.
    return said | _pairs([word.split("=", 1) for word in words[start:] if word != "labels"])


def _pairs(pairs: Sequence[Sequence[str]]) -> Facts:
    said: Facts = {}
    side = ""
    for key, value in pairs:
        key = _KEYS.get(key, key)
        if key == "src":
            side = "reply " if side else "orig "
        if key in ("src", "dst"):
            said[side + key] = ip_address(value)
        elif key == "id" and (f"{side}type" not in said or f"{side}id" in said):
            said["entry"] = int(value)  # not ICMP's
        elif key in _DIRECTION_KEYS:
            said[side + key] = int(value, 0)
        elif key.startswith("zone-"):
            said[f"{key.removeprefix('zone-')} zone"] = int(value)
        elif key == "labels":
            said[key] = frozenset(value.split(","))
        elif key not in ("delta-time", "progname"):
            said[key] = value if key == "helper" else int(value)
    return said


def from_xml(output: str) -> list[Facts]:
    """The same in XML: no details of ICMP, TCP's names for SCTP's states, but nanoseconds."""
    flows = [dict(_from_element(flow)) for flow in ET.fromstring(output or "<none/>")]
    for flow in flows:
        if flow["protocol"] == _SCTP:
            flow.pop("state", None)
    return flows


def _from_element(flow: ET.Element) -> Iterator[tuple[str, object]]:
    for meta in flow:
        if meta.tag == "helper":  # it stands beside the rest
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
    words = {"unreplied", "assured"}
    yield "status", frozenset(e.tag.upper() for e in meta if e.tag in words)
    for element in meta:
        if element.tag == "labels":
            if SHOWS_LABELS:
                yield "labels", frozenset(label.text for label in element)
        elif element.tag == "timestamp":
            yield from ((e.tag, int(e.text or "")) for e in element)
        elif element.tag not in {*words, "deltatime"}:
            text = element.text or ""
            name = "entry" if element.tag == "id" else element.tag
            yield name, int(text) if text.isdecimal() else text


# What it ought to say


def expected_facts(flow: Flow, *, xml: bool = False) -> Facts:
    """What conntrack(8) ought to say of a flow, in lines or in XML."""
    said: Facts = {
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
        said["state"] = state.name
    for side, tuple_, counters in (
        ("orig", flow.orig, flow.counters_orig),
        ("reply", flow.reply, flow.counters_reply),
    ):
        said |= {f"{side} {name}": value for name, value in _direction(tuple_, xml).items()}
        for name in _COUNTERS:
            said[f"{side} {name}"] = getattr(counters, name, None)
    if flow.labels is not None and SHOWS_LABELS:
        bits = (bit for bit in range(128) if flow.labels >> bit & 1)
        said["labels"] = frozenset(LABELS[bit] for bit in bits)
    if flow.timestamp is not None:
        for name in ("start", "stop"):
            moment = getattr(flow.timestamp, name)
            said[name] = moment if xml or moment is None else moment // 1_000_000_000
    return {name: value for name, value in said.items() if value is not None}


def expected_event_facts(event: FlowEvent) -> Facts:
    """What ``conntrack -E`` ought to say, in a line."""
    said = expected_facts(event.flow) | {"event": event.type.name}
    return said | {"portid": event.port_id} if event.port_id else said


def _status(status: Status) -> Iterator[str]:
    if not status & Status.SEEN_REPLY:
        yield "UNREPLIED"
    for bit in (Status.HW_OFFLOAD, Status.OFFLOAD, Status.ASSURED):
        if status & bit:
            yield str(bit.name)
            return


def _direction(tuple_: Tuple, xml: bool) -> Facts:
    said: Facts = {
        "src": tuple_.src,
        "dst": tuple_.dst,
        "sport": tuple_.sport,
        "dport": tuple_.dport,
        "zone": tuple_.zone,
    }
    if tuple_.proto in (ICMP, ICMPV6) and not xml:
        said |= {"type": tuple_.icmp_type, "code": tuple_.icmp_code, "id": tuple_.icmp_id}
    return said


# Side by side


async def check_listing(lab: Lab, conn: Connection) -> list[Flow]:
    """That conntrack(8) lists the same flows with the same facts as ours; our list.

    It lists between two lists of ours, until nothing but time has passed between these.
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
    for said in theirs:
        entry = said["entry"]
        assert isinstance(entry, int)
        expected = ours.pop(entry)
        seconds = [one.pop("timeout", 0) for one in (expected, said, later[entry])]
        assert seconds == sorted(seconds, reverse=True), said
        assert said == expected
    assert not ours
