"""What conntrack(8) says of expectations, as facts that can be compared with ours.

It tells no id, no function and no translation; in XML no flags of its own but the same.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from ipaddress import ip_address

from conntrack_aio import Tuple
from conntrack_aio.model.enums import ExpectFlags
from conntrack_aio.model.expectations import Expectation, ExpectEvent
from conntrack_aio.model.tuples import ICMP, ICMPV6

from .conntrack8 import Facts, conntrack
from .lab import Lab

_KEYS = {"srckey": "sport", "dstkey": "dport"}
_NUMBERS = frozenset({"sport", "dport", "type", "code", "id"})


def list_expectations(lab: Lab, family: int) -> tuple[list[Facts], list[Facts]]:
    """What ``conntrack -L expect`` says, in lines and in XML. It lists one family at a time."""
    arguments = ("-L", "expect", "-f", "ipv6" if family == 6 else "ipv4")
    lines = conntrack(lab, *arguments)
    elements = conntrack(lab, *arguments, "-o", "xml")
    return (
        [from_line(line) for line in lines.splitlines()],
        [dict(_from_element(flow)) for flow in ET.fromstring(elements or "<none/>")],
    )


def from_line(line: str) -> Facts:
    """A line of a list, or of ``conntrack -E expect``."""
    said: Facts = {}
    for event in re.findall(r"\[(\w+)\]", line):
        said["event"] = event
    words = re.sub(r"\[\w+\]", "", line).split()
    said["timeout"] = int(words.pop(0))
    said["flags"] = frozenset[str]()
    part = "tuple"
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            said["flags"] = frozenset(word.split(","))
            continue
        for name in ("mask", "master"):
            if key.startswith(f"{name}-"):
                part, key = name, key.removeprefix(f"{name}-")
        key = _KEYS.get(key, key)
        if key in ("src", "dst"):
            said[f"{part} {key}"] = ip_address(value)
        elif key in _NUMBERS:
            said[f"{part} {key}"] = int(value, 0)
        elif key in ("proto", "class"):
            said[key] = int(value)
        else:
            said[key] = value
    return said


def _from_element(flow: ET.Element) -> Iterator[tuple[str, object]]:
    layer3, layer4, meta = (flow.find(name) for name in ("layer3", "layer4", "meta"))
    assert layer3 is not None
    assert layer4 is not None
    assert meta is not None
    yield "proto", int(layer4.attrib["protonum"])
    for layer in (layer3, layer4):
        for element in layer:
            part = "tuple" if element.tag == "expected" else element.tag
            for inner in element:
                key = _KEYS.get(inner.tag, inner.tag)
                text = inner.text or ""
                value = ip_address(text) if key in ("src", "dst") else int(text, 0)
                yield f"{part} {key}", value
    yield "flags", frozenset(e.tag.upper() for e in meta if not e.text)
    names = {"helper-name": "helper", "timeout": "timeout", "class": "class"}
    for element in meta:
        if element.text:
            text = element.text
            yield names[element.tag], int(text) if text.isdecimal() else text


def expected_facts(expectation: Expectation, *, xml: bool = False) -> Facts:
    """What conntrack(8) ought to say of an expectation, in a line or in XML."""
    flags = expectation.flags or ExpectFlags(0)
    said: Facts = {
        "timeout": expectation.timeout,
        "proto": expectation.tuple.proto,
        "flags": frozenset(str(flag.name) for flag in ExpectFlags if flag & flags),
        "class": expectation.expect_class,
        "helper": expectation.helper,
    }
    for name in ("tuple", "mask", "master"):
        part: Tuple = getattr(expectation, name)
        values: Facts = {"src": part.src, "dst": part.dst, "sport": part.sport, "dport": part.dport}
        if part.proto in (ICMP, ICMPV6) and not xml:
            values |= {"type": part.icmp_type, "code": part.icmp_code, "id": part.icmp_id}
        said |= {f"{name} {key}": value for key, value in values.items() if value is not None}
    return said


def expected_event_facts(event: ExpectEvent) -> Facts:
    """What ``conntrack -E expect`` ought to say, in a line."""
    return expected_facts(event.expectation) | {"event": event.type.name}
