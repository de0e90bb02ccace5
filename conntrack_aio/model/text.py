"""A flow or an expectation in one line, for people.

Fields can be assigned, and an assignment is not checked. So whatever stands in a field is shown,
and what is none of its values is shown as :func:`describe_value` does. No function here raises.
"""

from __future__ import annotations

from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, cast

from ..plain import as_int
from .declare import is_message
from .enums import ExpectFlags, Status
from .tuples import (
    ICMP,
    ICMPV6,
    Tuple,
    describe_address,
    describe_endpoint,
    describe_ends,
    protocol_name,
)
from .values import describe_value

if TYPE_CHECKING:
    from .expectations import Expectation
    from .flow import Flow

_TOLD = (
    Status.EXPECTED
    | Status.ASSURED
    | Status.DYING
    | Status.FIXED_TIMEOUT
    | Status.OFFLOAD
    | Status.HW_OFFLOAD
)


def describe_flow(flow: Flow) -> str:
    """``tcp ESTABLISHED 10.0.0.2:40422 -> 10.1.0.2:80 [ASSURED] timeout=431999``.

    The reply stands there too where it is not the plain inverse, that is with NAT; a mark, zone
    and the like where there is one.
    """
    try:
        return _flow(flow)
    except Exception:
        return describe_value(flow)


def _flow(flow: Flow) -> str:
    orig = cast("object", flow.orig)
    parts = [protocol_name(orig.proto, "proto-")] if isinstance(orig, Tuple) else []
    state = _field(flow.protoinfo, "state")
    if state is not None:
        parts.append(_state(state))
    parts.append(_direction(orig))
    if not _is_inverse(flow):
        parts.append(f"(reply {_direction(flow.reply)})")
    parts += _status(flow.status)
    parts += _extras(flow)
    return " ".join(parts)


def _field(holder: object, name: str) -> object:
    """Return the field of an object of the model; ``None`` where it has none."""
    return getattr(holder, name, None) if is_message(type(holder)) else None


def _state(state: object) -> str:
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


def _is_inverse(flow: Flow) -> bool:
    """Without a zone of its own, too: an inverse has none."""
    try:
        return flow.reply == flow.orig.inverse
    except Exception:  # one of them has no inverse, or is no tuple
        return False


def _status(status: object) -> list[str]:
    if status is None:
        return []
    number = _number(status)
    if number is None:
        return [f"status={describe_value(status)}"]
    status = Status(number)
    words = [] if status & Status.SEEN_REPLY else ["[UNREPLIED]"]
    return words + [f"[{bit.name}]" for bit in Status if bit & _TOLD & status]


def _extras(flow: Flow) -> list[str]:
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
    parts += _labels(flow.labels)
    helper: object = flow.helper
    if is_message(type(helper)):
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
        if value is not None and not is_message(type(value)):
            parts.append(f"{name}={describe_value(value)}")
    return parts


def _number(value: object) -> int | None:
    """Return the plain number of 32 bits; ``None`` for anything else."""
    try:
        number = as_int(value)
    except Exception:
        return None
    return number if 0 <= number <= 0xFFFFFFFF else None


def _labels(labels: object) -> list[str]:
    if labels is None:
        return []
    if type(labels) is not int or not 0 <= labels < 1 << 128:
        return [f"labels={describe_value(labels)}"]
    bits = [str(bit) for bit in range(labels.bit_length()) if labels >> bit & 1]
    return [f"labels={','.join(bits)}"] if bits else []


def _text(value: object) -> str:
    return value if type(value) is str else describe_value(value)


def _subject(value: object) -> str:
    """Return an object of the model as its own text."""
    return str(value) if is_message(type(value)) else describe_value(value)


def describe_expectation(expectation: Expectation) -> str:
    """``tcp 10.0.0.2 -> 10.1.0.2:2050 timeout=299 helper=ftp master=(tcp 10.0.0.2:…)``.

    The source as far as the mask looks: ``any`` for an address of which it looks at nothing, and
    no port where any will do.
    """
    try:
        return _expectation(expectation)
    except Exception:
        return describe_value(expectation)


def _expectation(expectation: Expectation) -> str:
    tuple_, mask = cast("tuple[object, object]", (expectation.tuple, expectation.mask))
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
    if not is_message(type(nat)):
        return describe_value(nat)
    direction, announced = _field(nat, "direction"), _field(nat, "tuple")
    way = direction.name if isinstance(direction, IntEnum) else describe_value(direction)
    if not isinstance(announced, Tuple):
        return f"{way} {describe_value(announced)}"
    return f"{way} {describe_endpoint(announced.src, announced.sport)}"


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
