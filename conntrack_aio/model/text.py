"""A flow or an expectation in one line, for people."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from ..errors import EncodeError
from ..uapi.nf_conntrack_common import IPS, NF_CT_EXPECT
from .protocols import PROTOCOL_NAMES
from .tuples import ICMP, ICMPV6, Tuple, describe_endpoint

if TYPE_CHECKING:
    from .expectations import Expectation
    from .flow import Counters, Flow

_TOLD = IPS.EXPECTED | IPS.ASSURED | IPS.DYING | IPS.FIXED_TIMEOUT | IPS.OFFLOAD | IPS.HW_OFFLOAD


def describe_flow(flow: Flow) -> str:
    """``tcp ESTABLISHED 10.0.0.2:40422 -> 10.1.0.2:80 [ASSURED] timeout=431999``.

    The reply stands there too where it is not the plain inverse, that is with NAT; a mark, zone
    and the like where there is one.
    """
    parts = [PROTOCOL_NAMES.get(flow.orig.proto, f"proto-{flow.orig.proto}")]
    state = getattr(flow.protoinfo, "state", None)
    if state is not None:
        parts.append(state.name if isinstance(state, IntEnum) else f"state-{state}")
    parts.append(_direction(flow.orig))
    if not _is_inverse(flow):
        parts.append(f"(reply {_direction(flow.reply)})")
    parts += _status(flow.status)
    parts += _extras(flow)
    return " ".join(parts)


def _direction(tuple_: Tuple) -> str:
    if tuple_.proto in (ICMP, ICMPV6):
        ends = f"{tuple_.src} -> {tuple_.dst}"
        text = f"{ends} type={tuple_.icmp_type} code={tuple_.icmp_code} id={tuple_.icmp_id}"
    else:
        text = str(tuple_.without_zone).split(" ", 1)[1]
    return text if tuple_.zone is None else f"{text} zone={tuple_.zone}"


def _is_inverse(flow: Flow) -> bool:
    """Without a zone of its own, too: an inverse has none."""
    try:
        return flow.reply == flow.orig.inverse
    except EncodeError:
        return False


def _status(status: IPS | None) -> list[str]:
    if status is None:
        return []
    words = [] if status & IPS.SEEN_REPLY else ["[UNREPLIED]"]
    return words + [f"[{bit.name}]" for bit in IPS if bit & _TOLD & status]


def _extras(flow: Flow) -> list[str]:
    parts: list[str] = []
    if flow.timeout is not None:
        parts.append(f"timeout={flow.timeout}")
    if flow.mark:
        parts.append(f"mark={flow.mark:#x}")
    if flow.zone is not None:
        parts.append(f"zone={flow.zone}")
    if flow.labels:
        bits = (str(bit) for bit in range(flow.labels.bit_length()) if flow.labels >> bit & 1)
        parts.append(f"labels={','.join(bits)}")
    if flow.helper is not None and flow.helper.name is not None:
        parts.append(f"helper={flow.helper.name}")
    if flow.master is not None:
        parts.append(f"master=({flow.master})")
    for name in ("packets", "bytes"):
        both = [_count(counters, name) for counters in (flow.counters_orig, flow.counters_reply)]
        if any(both):
            parts.append(f"{name}={both[0]}/{both[1]}")
    return parts


def _count(counters: Counters | None, name: str) -> str:
    value = None if counters is None else getattr(counters, name)
    return "" if value is None else str(value)


def describe_expectation(expectation: Expectation) -> str:
    """``tcp 10.0.0.2 -> 10.1.0.2:2050 timeout=299 helper=ftp master=(tcp 10.0.0.2:…)``.

    The source as far as the mask looks: ``any`` for an address of which it looks at nothing, and
    no port where any will do.
    """
    tuple_ = expectation.tuple
    parts = [PROTOCOL_NAMES.get(tuple_.proto, f"proto-{tuple_.proto}")]
    parts.append(_expected_source(tuple_, expectation.mask))
    parts.append(f"-> {describe_endpoint(tuple_.dst, tuple_.dport)}")
    if tuple_.icmp_type is not None:
        parts.append(f"type={tuple_.icmp_type} code={tuple_.icmp_code}")
        if expectation.mask.icmp_id:
            parts.append(f"id={tuple_.icmp_id}")
    flags = expectation.flags or NF_CT_EXPECT(0)
    parts += [f"[{bit.name}]" for bit in NF_CT_EXPECT if bit & flags]
    for name in ("timeout", "helper", "function"):
        if (value := getattr(expectation, name)) is not None:
            parts.append(f"{name}={value}")
    if expectation.expect_class:
        parts.append(f"class={expectation.expect_class}")
    if (nat := expectation.nat) is not None:
        way = nat.direction.name if isinstance(nat.direction, IntEnum) else nat.direction
        parts.append(f"nat=({way} {describe_endpoint(nat.tuple.src, nat.tuple.sport)})")
    return " ".join([*parts, f"master=({expectation.master})"])


def _expected_source(tuple_: Tuple, mask: Tuple) -> str:
    bits = int(mask.src)
    port = tuple_.sport if mask.sport else None
    text = describe_endpoint(tuple_.src, port)
    if bits == 0:
        text = "any" if port is None else f"any:{port}"
    elif bits < (1 << mask.src.max_prefixlen) - 1:
        text += f"/{mask.src}"
    return text if port is None or mask.sport == 0xFFFF else f"{text}/{mask.sport:#x}"
