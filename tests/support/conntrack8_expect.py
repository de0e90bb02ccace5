"""Compare what conntrack(8) prints about expectations with this library.

Both are reduced to facts, as in :mod:`conntrack8`. conntrack(8) prints neither the id, the function
nor the translation of an expectation. In XML each flag is an element.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from ipaddress import ip_address

from conntrack_aio import Tuple
from conntrack_aio.model.enums import ExpectFlags
from conntrack_aio.model.expectations import Expectation, ExpectEvent
from conntrack_aio.model.protocols import ICMP, ICMPV6

from .conntrack8 import Facts, conntrack
from .lab import Lab

_KEYS = {"srckey": "sport", "dstkey": "dport"}
_NUMBERS = frozenset({"sport", "dport", "type", "code", "id"})


def list_expectations(lab: Lab, family: int) -> tuple[list[Facts], list[Facts]]:
    """Return the facts that ``conntrack -L expect`` prints, as text and as XML.

    :param family: 4 or 6; conntrack(8) lists one family at a time.
    """
    arguments = ("-L", "expect", "-f", "ipv6" if family == 6 else "ipv4")
    lines = conntrack(lab, *arguments)
    elements = conntrack(lab, *arguments, "-o", "xml")
    return (
        [from_line(line) for line in lines.splitlines()],
        [dict(_from_element(flow)) for flow in ET.fromstring(elements or "<none/>")],
    )


def from_line(line: str) -> Facts:
    """Return the facts of a line that ``conntrack -L expect`` or ``-E expect`` prints."""
    found: Facts = {}
    for event in re.findall(r"\[(\w+)\]", line):
        found["event"] = event
    words = re.sub(r"\[\w+\]", "", line).split()
    found["timeout"] = int(words.pop(0))
    found["flags"] = frozenset[str]()
    part = "tuple"
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            found["flags"] = frozenset(word.split(","))
            continue
        for name in ("mask", "master"):
            if key.startswith(f"{name}-"):
                part, key = name, key.removeprefix(f"{name}-")
        key = _KEYS.get(key, key)
        if key in ("src", "dst"):
            found[f"{part} {key}"] = ip_address(value)
        elif key in _NUMBERS:
            found[f"{part} {key}"] = int(value, 0)
        elif key in ("proto", "class"):
            found[key] = int(value)
        else:
            found[key] = value
    return found


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
    """Return the facts that conntrack(8) must print of an expectation, as text or as XML."""
    flags = expectation.flags or ExpectFlags(0)
    expected: Facts = {
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
        expected |= {f"{name} {key}": value for key, value in values.items() if value is not None}
    return expected


def expected_event_facts(event: ExpectEvent) -> Facts:
    """Return the facts that ``conntrack -E expect`` must print of an event, as text."""
    return expected_facts(event.expectation) | {"event": event.type.name}
