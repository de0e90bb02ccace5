"""The contents of a request that creates an entry.

Rules of the kernel that this module deals with (``ctnetlink_create_conntrack``,
``ctnetlink_change_status``, ``nf_conntrack_tcp_packet``):

- A status must have CONFIRMED, and must not have the bits that the kernel sets itself.
- The kernel translates the reply tuple. It silently drops a range that it cannot use.
- A TCP entry without window data needs BE_LIBERAL, because otherwise its packets are invalid.
"""

from __future__ import annotations

from typing import Final, cast

from ...errors import EncodeError
from ...model.enums import Status, TCPFlags, TCPState
from ...model.flow import Flow
from ...model.lazy_fields import own_class
from ...model.nat import NATRange
from ...model.protocols import TCP
from ...model.protoinfo import TCPInfo
from ...model.requests import RequestOnly
from ...model.tuples import IPAddress
from ...model.values import number_within, plain_number
from ..packed_requests import RequestValue, UnsupportedShape
from ..reference import encode_fields
from .common import as_argument
from .flow_values import SETTABLE, check_protoinfo, check_seqadj
from .targets import check_tuple

_COPIED: Final = (
    *("orig", "reply", "master", "timeout", "mark", "zone", "helper", "labels"),
    *("seqadj_orig", "seqadj_reply", "synproxy"),
)
"""The fields of a flow that are sent as they are. The status and the protocol's state are computed.
Only the kernel can set the others."""

_LIBERAL = TCPFlags.BE_LIBERAL | TCPFlags.SACK_PERM


def checked_flow(flow: Flow) -> Flow:
    """Return the flow with plain values, if an entry can be created from it.

    :raises TypeError: when it is not a :class:`Flow`.
    :raises EncodeError: when a field holds no valid value, or when fields contradict one another.
    """
    flow = as_argument(flow, Flow, "an entry is created from a Flow")
    flow.validate()
    for name in ("orig", "reply", "master"):
        tuple_: object = getattr(flow, name)
        if tuple_ is not None:
            check_tuple(tuple_, name)
    if flow.timeout is None:
        raise EncodeError("a new entry needs a timeout", ("timeout",))
    _check_zones(flow)
    check_protoinfo(flow.protoinfo, flow.orig.proto)
    check_seqadj({name: getattr(flow, name) for name in ("seqadj_orig", "seqadj_reply")})
    return flow


def encode_new_entry(
    flow: Flow,
    nat_src: NATRange | IPAddress | str | None,
    nat_dst: NATRange | IPAddress | str | None,
) -> bytes:
    """Return the attributes of a new entry.

    :param flow: the flow that :func:`checked_flow` returned.
    :param nat_src: what the source is translated to.
    :param nat_dst: what the destination is translated to.
    :raises EncodeError: when a translation does not fit the flow, or when a value is out of range.
    """
    ranges = {
        "nat_src": _nat_range(flow, "nat_src", nat_src),
        "nat_dst": _nat_range(flow, "nat_dst", nat_dst),
    }
    values: dict[str, object] = {name: getattr(flow, name) for name in _COPIED}
    values["status"] = _created_status(flow.status)
    values["protoinfo"] = _created_protoinfo(flow)
    return encode_fields(Flow, values) + encode_fields(RequestOnly, ranges)


def new_entry_values(flow: Flow, nat_src: object, nat_dst: object) -> list[RequestValue]:
    """Return the values that a new entry depends on.

    Whether a translation fits the entry depends on a comparison, which a packer cannot make. So
    :func:`is_untranslated` must be true for all entries with a translation that share packers.

    :raises UnsupportedShape: when the flow is of a subclass, or when a translation is not a range
        of one address or one port.
    """
    if own_class(flow) is not Flow:
        raise UnsupportedShape
    ranges = {"nat_src": nat_src, "nat_dst": nat_dst}
    for value in ranges.values():
        if value is not None and not _is_single(value):
            raise UnsupportedShape
    return [
        *[RequestValue(f"flow.{name}", getattr(flow, name), Flow, name) for name in _COPIED],
        RequestValue("flow.status", flow.status, Flow, "status", computed=True),
        RequestValue("flow.protoinfo", flow.protoinfo, Flow, "protoinfo", computed=True),
        *[RequestValue(name, value, RequestOnly, name) for name, value in ranges.items()],
    ]


def _is_single(value: object) -> bool:
    """Return whether a value is a range whose ends need no comparison."""
    return type(value) is NATRange and value.address_max is None and value.port_max is None


def is_untranslated(flow: object) -> bool:
    """Return whether an object is a flow whose reply is the inverse of its original direction."""
    try:
        return isinstance(flow, Flow) and flow.reply.without_zone == flow.orig.inverse
    except Exception:
        return False  # the reference raises the proper error


def _check_zones(flow: Flow) -> None:
    zones = [zone for zone in (flow.zone, flow.orig.zone, flow.reply.zone) if zone is not None]
    if len(zones) > 1:
        raise EncodeError(
            "a new entry has one zone: that of both directions, or that of one tuple", ("zone",)
        )
    if flow.master is not None and flow.master.zone is not None:
        raise EncodeError(
            "the kernel looks the master up in the zone of the new entry; leave it out",
            ("master", "zone"),
        )


def _nat_range(flow: Flow, name: str, value: NATRange | IPAddress | str | None) -> NATRange | None:
    """Return a NAT range that the kernel will not drop silently.

    :raises EncodeError: when the kernel would drop the range, or when the value is not a range.
    """
    if value is None:
        return None
    if issubclass(type(value), NATRange):
        value = as_argument(value, NATRange, "")
    else:
        try:
            value = NATRange.of(cast("IPAddress | str", value))
        except EncodeError as error:
            raise EncodeError(error.reason, (name, *error.path)) from None
    if value.address_min is not None and type(value.address_min) is not type(flow.orig.src):
        raise EncodeError(
            f"{value.address_min} is not an address of the flow's family",
            (name, "address_min"),
        )
    if flow.reply.without_zone != flow.orig.inverse:
        raise EncodeError(
            "for a translation it must be the inverse of orig; the kernel translates it",
            ("reply",),
        )
    return value


def _created_status(status: Status | None) -> int | None:
    """Return the status to create an entry with.

    With any status the kernel requires CONFIRMED, and it refuses the bits that it sets itself.
    """
    if status is None:
        return None
    return number_within(status, 0xFFFFFFFF, "status") & SETTABLE | Status.CONFIRMED


def _created_protoinfo(flow: Flow) -> object:
    """Return the protocol's state to create an entry with.

    A TCP entry that a program creates has no window data, so without BE_LIBERAL its packets are
    invalid. Without a state it would be in NONE, where only a SYN is valid. From TIME_WAIT on it
    also gets CLOSE_INIT: only with that does a SYN that reuses its ports reopen it
    (``nf_conntrack_tcp_packet``).
    """
    if flow.orig.proto != TCP:
        return flow.protoinfo
    info = flow.protoinfo if isinstance(flow.protoinfo, TCPInfo) else TCPInfo()
    state = TCPState.ESTABLISHED if info.state is None else info.state
    closing = plain_number(state, "protoinfo", "state") >= TCPState.TIME_WAIT
    needed = int(_LIBERAL | TCPFlags.CLOSE_INIT if closing else _LIBERAL)

    def flags(name: str) -> TCPFlags:
        value = getattr(info, name)
        given = 0 if value is None else plain_number(value, "protoinfo", name)
        return cast("TCPFlags", needed | given)

    return TCPInfo(
        state=state,
        wscale_orig=info.wscale_orig,
        wscale_reply=info.wscale_reply,
        flags_orig=flags("flags_orig"),
        flags_reply=flags("flags_reply"),
    )
