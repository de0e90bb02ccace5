"""A flow in one line, for people."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from ..errors import EncodeError
from ..uapi.nf_conntrack_common import IPS
from .tuples import ICMP, ICMPV6, PROTOCOL_NAMES, Tuple

if TYPE_CHECKING:
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
