"""Describe a flow, an expectation or an event in one line, for people.

Fields can be assigned, and an assignment is not checked. So every value of a field is shown: a
value that the field does not accept is shown by :func:`describe_value`. No function here raises.

The functions take any object with the fields that they show, so that this module imports none of
the classes that use it.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from ..plain import as_int
from .enums import EventType, ExpectFlags, Status
from .normalization import is_message_class
from .protocols import ICMP, ICMPV6
from .times import as_datetime
from .tuples import (
    Tuple,
    describe_address,
    describe_endpoint,
    describe_ends,
    is_plain_inverse,
    is_plain_tuple,
    protocol_name,
)
from .values import describe_value

_SHOWN_STATUS = (
    Status.EXPECTED
    | Status.ASSURED
    | Status.DYING
    | Status.FIXED_TIMEOUT
    | Status.OFFLOAD
    | Status.HW_OFFLOAD
)


class FlowFields(Protocol):
    """The fields of a flow that its description shows."""

    @property
    def orig(self) -> object: ...
    @property
    def reply(self) -> object: ...
    @property
    def master(self) -> object: ...
    @property
    def status(self) -> object: ...
    @property
    def timeout(self) -> object: ...
    @property
    def mark(self) -> object: ...
    @property
    def zone(self) -> object: ...
    @property
    def protoinfo(self) -> object: ...
    @property
    def counters_orig(self) -> object: ...
    @property
    def counters_reply(self) -> object: ...
    @property
    def helper(self) -> object: ...
    @property
    def labels(self) -> object: ...


class ExpectationFields(Protocol):
    """The fields of an expectation that its description shows."""

    @property
    def master(self) -> object: ...
    @property
    def tuple(self) -> object: ...
    @property
    def mask(self) -> object: ...
    @property
    def timeout(self) -> object: ...
    @property
    def helper(self) -> object: ...
    @property
    def flags(self) -> object: ...
    @property
    def expect_class(self) -> object: ...
    @property
    def nat(self) -> object: ...
    @property
    def function(self) -> object: ...


class EventFields(Protocol):
    """The fields of an event that its description shows."""

    @property
    def type(self) -> object: ...
    @property
    def port_id(self) -> object: ...
    @property
    def nsid(self) -> object: ...
    @property
    def netns(self) -> object: ...
    @property
    def receive_timestamp(self) -> object: ...


def describe_flow(flow: FlowFields) -> str:
    """Describe a flow: ``tcp ESTABLISHED 10.0.0.2:40422 -> 10.1.0.2:80 [ASSURED] timeout=431999``.

    The line includes the reply direction if it is not the inverse of the original direction, that
    is, with NAT. It includes the mark, zone and further fields that are present.
    """
    try:
        return _flow(flow)
    except Exception:
        return describe_value(flow)


def _flow(flow: FlowFields) -> str:
    orig = flow.orig
    parts = [protocol_name(orig.proto, "proto-")] if isinstance(orig, Tuple) else []
    state = _field(flow.protoinfo, "state")
    if state is not None:
        parts.append(describe_state(state))
    parts.append(_direction(orig))
    if not _is_inverse(flow):
        parts.append(f"(reply {_direction(flow.reply)})")
    parts += status_parts(flow.status)
    parts += _extras(flow)
    return " ".join(parts)


def _field(holder: object, name: str) -> object:
    """Return a field of an object of the model, and ``None`` for any other object."""
    return getattr(holder, name, None) if is_message_class(type(holder)) else None


def describe_state(state: object) -> str:
    if isinstance(state, IntEnum):
        return state.name
    return f"state-{state}" if type(state) is int else f"state={describe_value(state)}"


def _direction(tuple_: object) -> str:
    if not isinstance(tuple_, Tuple):
        return describe_value(tuple_)
    if tuple_.proto in (ICMP, ICMPV6):
        ends = f"{describe_address(tuple_.src)} -> {describe_address(tuple_.dst)}"
        numbers = map(describe_value, (tuple_.icmp_type, tuple_.icmp_code, tuple_.icmp_id))
        text = "{} type={} code={} id={}".format(ends, *numbers)
    else:
        text = describe_ends(tuple_)
    return text if tuple_.zone is None else f"{text} zone={describe_value(tuple_.zone)}"


def _is_inverse(flow: FlowFields) -> bool:
    """Return whether the reply is the inverse of the original direction, without a zone."""
    orig, reply = flow.orig, flow.reply
    try:
        if is_plain_tuple(orig) and is_plain_tuple(reply):
            return is_plain_inverse(orig, reply)
        return isinstance(orig, Tuple) and bool(reply == orig.inverse)
    except Exception:  # a tuple with invalid values has no inverse
        return False


def status_parts(status: object) -> list[str]:
    if status is None:
        return []
    number = _number(status)
    if number is None:
        return [f"status={describe_value(status)}"]
    return [*_names_of_status(number)]


@lru_cache(64)
def _names_of_status(number: int) -> list[str]:
    status = Status(number)
    parts = [] if status & Status.SEEN_REPLY else ["[UNREPLIED]"]
    return parts + [f"[{bit.name}]" for bit in Status if bit & _SHOWN_STATUS & status]


def _extras(flow: FlowFields) -> list[str]:
    parts: list[str] = []
    if flow.timeout is not None:
        parts.append(f"timeout={describe_value(flow.timeout)}")
    if flow.mark is not None:
        number = _number(flow.mark)
        if number != 0:
            shown = describe_value(flow.mark) if number is None else f"{number:#x}"
            parts.append(f"mark={shown}")
    if flow.zone is not None:
        parts.append(f"zone={describe_value(flow.zone)}")
    parts += label_parts(flow.labels)
    helper = flow.helper
    if is_message_class(type(helper)):
        name = _field(helper, "name")
        if name is not None:
            parts.append(f"helper={_text(name)}")
    elif helper is not None:
        parts.append(f"helper={describe_value(helper)}")
    if flow.master is not None:
        parts.append(f"master=({_subject(flow.master)})")
    for name in ("packets", "bytes"):
        both = [_field(counters, name) for counters in (flow.counters_orig, flow.counters_reply)]
        if both != [None, None]:
            counts = ["" if value is None else describe_value(value) for value in both]
            parts.append(f"{name}={'/'.join(counts)}")
    for name in ("protoinfo", "counters_orig", "counters_reply"):
        value: object = getattr(flow, name)
        if value is not None and not is_message_class(type(value)):
            parts.append(f"{name}={describe_value(value)}")
    return parts


def _number(value: object) -> int | None:
    """Return the plain value of a 32-bit number, and ``None`` for any other value."""
    try:
        number = as_int(value)
    except Exception:
        return None
    return number if 0 <= number <= 0xFFFFFFFF else None


def label_parts(labels: object) -> list[str]:
    if labels is None:
        return []
    if type(labels) is not int or not 0 <= labels < 1 << 128:
        return [f"labels={describe_value(labels)}"]
    bits = [str(bit) for bit in range(labels.bit_length()) if labels >> bit & 1]
    return [f"labels={','.join(bits)}"] if bits else []


def _text(value: object) -> str:
    return value if type(value) is str else describe_value(value)


def _subject(value: object) -> str:
    """Return the text of an object of the model, and a description of any other value."""
    return str(value) if is_message_class(type(value)) else describe_value(value)


def describe_expectation(expectation: ExpectationFields) -> str:
    """Describe an expectation: ``tcp 10.0.0.2 -> 10.1.0.2:2050 timeout=299 helper=ftp master=(…)``.

    The line shows the source under the mask: ``any`` if the mask of the address is zero, and no
    port if the mask of the port is zero.
    """
    try:
        return _expectation(expectation)
    except Exception:
        return describe_value(expectation)


def _expectation(expectation: ExpectationFields) -> str:
    tuple_, mask = expectation.tuple, expectation.mask
    parts: list[str] = []
    if isinstance(tuple_, Tuple):
        parts.append(protocol_name(tuple_.proto, "proto-"))
        parts.append(_expected_source(tuple_, mask))
        parts.append(f"-> {describe_endpoint(tuple_.dst, tuple_.dport)}")
        if tuple_.icmp_type is not None:
            numbers = map(describe_value, (tuple_.icmp_type, tuple_.icmp_code))
            parts.append("type={} code={}".format(*numbers))
            if _field(mask, "icmp_id") not in (None, 0):
                parts.append(f"id={describe_value(tuple_.icmp_id)}")
    else:
        parts.append(describe_value(tuple_))
    if expectation.flags is not None:
        flags = _number(expectation.flags)
        if flags is None:
            parts.append(f"flags={describe_value(expectation.flags)}")
        else:
            parts += [f"[{bit.name}]" for bit in ExpectFlags if bit & flags]
    if expectation.timeout is not None:
        parts.append(f"timeout={describe_value(expectation.timeout)}")
    for name in ("helper", "function"):
        value: object = getattr(expectation, name)
        if value is not None:
            parts.append(f"{name}={_text(value)}")
    if expectation.expect_class not in (None, 0):
        parts.append(f"class={describe_value(expectation.expect_class)}")
    if expectation.nat is not None:
        parts.append(f"nat=({_nat(expectation.nat)})")
    return " ".join([*parts, f"master=({_subject(expectation.master)})"])


def _nat(nat: object) -> str:
    if not is_message_class(type(nat)):
        return describe_value(nat)
    direction, announced = _field(nat, "direction"), _field(nat, "tuple")
    name = direction.name if isinstance(direction, IntEnum) else describe_value(direction)
    if not isinstance(announced, Tuple):
        return f"{name} {describe_value(announced)}"
    return f"{name} {describe_endpoint(announced.src, announced.sport)}"


def _expected_source(tuple_: Tuple, mask: object) -> str:
    if not isinstance(mask, Tuple) or type(mask.src) not in (IPv4Address, IPv6Address):
        return f"{describe_endpoint(tuple_.src, tuple_.sport)}/{_subject(mask)}"
    bits = int(mask.src)
    port = tuple_.sport if mask.sport else None
    text = describe_endpoint(tuple_.src, port)
    if bits == 0:
        text = "any" if port is None else f"any:{describe_value(port)}"
    elif bits < (1 << mask.src.max_prefixlen) - 1:
        text += f"/{mask.src}"
    if port is None or mask.sport == 0xFFFF:
        return text
    return f"{text}/{mask.sport:#x}" if type(mask.sport) is int else text


def describe_event(event: EventFields, subject: object, timestamp: object = None) -> str:
    """Describe an event: its type, subject, network namespace, port id and times.

    The line omits what is absent.

    :param event: the event.
    :param subject: the flow or expectation of the event.
    :param timestamp: the kernel's time of the event, in nanoseconds since 1970.
    """
    try:
        return _event(event, subject, timestamp)
    except Exception:
        return describe_value(event)


def _event(event: EventFields, subject: object, timestamp: object) -> str:
    type_ = event.type
    name = type_.name if isinstance(type_, EventType) else describe_value(type_)
    parts = [f"{name:<7} {_subject(subject)}"]
    if event.nsid is not None:
        netns = "" if event.netns is None else _text(event.netns)
        parts.append(f"in {netns or f'namespace {describe_value(event.nsid)}'}")
    if type(event.port_id) is not int or event.port_id:
        parts.append(f"portid={describe_value(event.port_id)}")
    parts += _time_parts("time", timestamp)
    parts += _time_parts("received", event.receive_timestamp)
    return " ".join(parts)


def _time_parts(name: str, nanoseconds: object) -> list[str]:
    if nanoseconds is None:
        return []
    try:
        text = _time_text(as_int(nanoseconds))
    except Exception:
        return [f"{name}={describe_value(nanoseconds)}"]
    return [f"{name}={text}"] if text else []


def time_piece(nanoseconds: int) -> str:
    """Return what :func:`describe_event` adds for the kernel's time of an event."""
    text = _time_text(nanoseconds)
    return f" time={text}" if text else ""


def _time_text(nanoseconds: int) -> str:
    """Return a time in nanoseconds since 1970; an empty text for one after the year 9999.

    The text of a second is kept, because many events happen in it.
    """
    second, rest = divmod(nanoseconds, 1_000_000_000)
    text = _second_text(second)
    return f"{text}.{rest // 1000:06}Z" if text else ""


@lru_cache(8)
def _second_text(second: int) -> str:
    """Return the text of a second since 1970, without a fraction."""
    time = as_datetime(second * 1_000_000_000)
    return "" if time is None else f"{time:%Y-%m-%dT%H:%M:%S}"
