"""Write flows, expectations and their events as the XML that conntrack(8) prints.

The elements and their order are those of conntrack(8), and so are these peculiarities:

- ICMP types, codes and ids are left out.
- The states of SCTP and DCCP have the names of the TCP states with the same numbers.

Unlike conntrack(8), characters with a meaning in XML are escaped in the names of helpers and labels
and in security contexts, so that the result is always XML.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from ...model.enums import Status
from ...model.events import Event
from ...model.expectations import Expectation
from ...model.flow import Counters, Flow, Timestamp
from ...model.protocols import GRE
from ...model.tuples import Tuple
from .events import receive_seconds
from .expectation_text import flag_names
from .output_options import OutputOptions
from .text import (
    ALL_ONES,
    NANOSECONDS,
    PORTED,
    PROTOCOL_NAMES,
    TCP_STATES,
    address_text,
    age,
    label_names,
)

DECLARATION: Final = '<?xml version="1.0" encoding="utf-8"?>\n'

_LAYER3: Final = {
    4: '<layer3 protonum="2" protoname="ipv4">',
    6: '<layer3 protonum="10" protoname="ipv6">',
}


def flow_xml(
    flow: Flow, output: OutputOptions, names: Mapping[int, str], event: Event | None = None
) -> str:
    """Return the element of a flow, or of an event.

    :param flow: the flow.
    :param output: the output options.
    :param names: the names of the labels, by their bits; none if there is no file of names.
    :param event: the event of the flow.
    """
    parts, first = [_start(event)], flow.counters_orig
    # The counters of the original direction decide whether those of the reply are printed.
    counted = first is not None and first.packets is not None and first.bytes is not None
    for direction, tuple_, counters in (
        ("original", flow.orig, flow.counters_orig),
        ("reply", flow.reply, flow.counters_reply),
    ):
        parts.append(f'<meta direction="{direction}">{_LAYER3[tuple_.src.version]}')
        parts.append(f"{_addresses(tuple_)}</layer3>{_layer4(tuple_)}{_ports(tuple_)}</layer4>")
        parts.append(_element("zone", tuple_.zone))
        if counted:
            parts.append(_counters(counters))
        parts.append("</meta>")
    parts.append('<meta direction="independent">')
    _add_independent(parts, flow, output, names)
    parts.append("</meta>")
    if flow.helper is not None and flow.helper.name is not None:
        parts.append(f"<helper>{_escaped(flow.helper.name)}</helper>")
    parts.append(_when(event, output))
    parts.append("</flow>")
    return "".join(parts)


def _add_independent(
    parts: list[str], flow: Flow, output: OutputOptions, names: Mapping[int, str]
) -> None:
    """Add what belongs to neither direction."""
    state = None if flow.protoinfo is None else flow.protoinfo.state
    if state is not None:
        parts.append(f"<state>{TCP_STATES[state] if state < len(TCP_STATES) else 'NONE'}</state>")
    parts += [_element("timeout", flow.timeout), _element("mark", flow.mark)]
    if output & OutputOptions.LABELS and flow.labels is not None and names:
        found = label_names(flow.labels, names)
        inside = "".join([f"<label>{_escaped(name)}</label>" for name in found])
        parts.append(f"<labels>{inside}</labels>")
    if flow.secctx is not None:
        parts.append(f"<secctx>{_escaped(flow.secctx)}</secctx>")
    parts += [_element("zone", flow.zone), _element("use", flow.use), _element("id", flow.id)]
    if flow.status is not None:
        if flow.status & Status.ASSURED:
            parts.append("<assured/>")
        if not flow.status & Status.SEEN_REPLY:
            parts.append("<unreplied/>")
    if flow.timestamp is not None:
        _add_times(parts, flow.timestamp, output)


def _add_times(parts: list[str], timestamp: Timestamp, output: OutputOptions) -> None:
    start, stop = timestamp.start, timestamp.stop
    if output & OutputOptions.KTIMESTAMP and not start is stop is None:
        times = f"{_element('start', start)}{_element('stop', stop)}"
        parts.append(f"<timestamp>{times}</timestamp>")
    if start is not None:
        parts.append(_element("deltatime", _age(start, stop)))


def _age(start: int, stop: int | None) -> int:
    """Return the age in whole seconds. Unlike in text, an end of 0 is an end."""
    return age(start, None) if stop is None else (stop - start & ALL_ONES) // NANOSECONDS


def expectation_xml(
    expectation: Expectation, output: OutputOptions, event: Event | None = None
) -> str:
    """Return the element of an expectation, or of an event.

    :param expectation: the expectation.
    :param output: the output options.
    :param event: the event of the expectation.
    """
    tuple_ = expectation.tuple
    tuples = {"expected": tuple_, "mask": expectation.mask, "master": expectation.master}
    parts = [_start(event), _LAYER3[tuple_.src.version]]
    parts += [f"<{name}>{_addresses(each)}</{name}>" for name, each in tuples.items()]
    parts += ["</layer3>", _layer4(tuple_)]
    parts += [f"<{name}>{_ports(each)}</{name}>" for name, each in tuples.items()]
    parts.append("</layer4><meta>")
    if expectation.helper is not None:
        parts.append(f"<helper-name>{_escaped(expectation.helper)}</helper-name>")
    parts.append(_element("timeout", expectation.timeout))
    parts.append(_element("class", expectation.expect_class))
    parts.append(_when(event, output))
    parts += [f"<{name.lower()}/>" for name in flag_names(expectation)]
    parts.append("</meta></flow>")
    return "".join(parts)


# -- elements --------------------------------------------------------------------------------------


def _start(event: Event | None) -> str:
    return "<flow>" if event is None else f'<flow type="{event.type.value}">'


def _element(name: str, value: int | None) -> str:
    """Return an element with a number in it; empty if there is no number."""
    return "" if value is None else f"<{name}>{value:d}</{name}>"


def _addresses(tuple_: Tuple) -> str:
    return f"<src>{address_text(tuple_.src)}</src><dst>{address_text(tuple_.dst)}</dst>"


def _layer4(tuple_: Tuple) -> str:
    name = PROTOCOL_NAMES.get(tuple_.proto, "unknown")
    return f'<layer4 protonum="{tuple_.proto:d}" protoname="{name}">'


def _ports(tuple_: Tuple) -> str:
    source, target = tuple_.sport or 0, tuple_.dport or 0
    if tuple_.proto in PORTED:
        return f"<sport>{source:d}</sport><dport>{target:d}</dport>"
    if tuple_.proto == GRE:
        return f"<srckey>{source:#x}</srckey><dstkey>{target:#x}</dstkey>"
    return ""


def _counters(counters: Counters | None) -> str:
    packets = 0 if counters is None or counters.packets is None else counters.packets
    bytes_ = 0 if counters is None or counters.bytes is None else counters.bytes
    return f"<counters>{_element('packets', packets)}{_element('bytes', bytes_)}</counters>"


def _when(event: Event | None, output: OutputOptions) -> str:
    """Return the local time at which an event was received. A week begins with day 1, Sunday."""
    if event is None or not output & OutputOptions.TIMESTAMP:
        return ""
    local = time.localtime(receive_seconds(event)[0])
    numbers = {
        "hour": local.tm_hour,
        "min": local.tm_min,
        "sec": local.tm_sec,
        "wday": (local.tm_wday + 1) % 7 + 1,
        "day": local.tm_mday,
        "month": local.tm_mon,
        "year": local.tm_year,
    }
    inside = "".join([_element(name, number) for name, number in numbers.items()])
    return f"<when>{inside}</when>"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
