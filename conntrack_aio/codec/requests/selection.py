"""Encode what a dump or a flush selects by (``ctnetlink_alloc_filter``).

Rules of the kernel that this module deals with:

- It reads a mask only together with its value. Before 5.8 it reads a mark only with its mask.
- Of a tuple it compares only the parts that are flagged, and these must be present.
- It inverts the comparison of IPv6 addresses, so none is ever sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address
from typing import Final

from ...errors import EncodeError
from ...model.flow import Flow
from ...model.protocols import ICMP, ICMPV6
from ...model.requests import FilterFlags, RequestOnly, Selection
from ...model.tuples import Tuple
from ...netlink.attributes import pack
from ...uapi.nf_internals import CTA_FILTER_F
from ...uapi.nfnetlink_conntrack import CTA
from ..reference import encode_fields

_FLAGS: Final[Mapping[str, CTA_FILTER_F]] = {
    "src": CTA_FILTER_F.CTA_IP_SRC,
    "dst": CTA_FILTER_F.CTA_IP_DST,
    "proto": CTA_FILTER_F.CTA_PROTO_NUM,
    "sport": CTA_FILTER_F.CTA_PROTO_SRC_PORT,
    "dport": CTA_FILTER_F.CTA_PROTO_DST_PORT,
}
_ICMP_FLAGS: Final[Mapping[int, Mapping[str, CTA_FILTER_F]]] = {
    ICMP: {
        "icmp_type": CTA_FILTER_F.CTA_PROTO_ICMP_TYPE,
        "icmp_code": CTA_FILTER_F.CTA_PROTO_ICMP_CODE,
        "icmp_id": CTA_FILTER_F.CTA_PROTO_ICMP_ID,
    },
    ICMPV6: {
        "icmp_type": CTA_FILTER_F.CTA_PROTO_ICMPV6_TYPE,
        "icmp_code": CTA_FILTER_F.CTA_PROTO_ICMPV6_CODE,
        "icmp_id": CTA_FILTER_F.CTA_PROTO_ICMPV6_ID,
    },
}


def select(selection: Selection, *, flags: bool = False) -> bytes:
    """Return the attributes of a selection. The family is sent in the header of the request.

    :param selection: what to select.
    :param flags: whether to send the filter of tuples even if it compares nothing.

    :raises EncodeError: when the kernel cannot select by one of the fields or values.
    """
    mark, status = selection.mark, selection.status
    values: dict[str, object] = {"zone": selection.zone}
    masks: dict[str, object] = {}
    if mark is not None:
        values["mark"], masks["mark_mask"] = mark.value, mark.mask
    if status is not None:
        values["status"], masks["status_mask"] = status.value, status.mask
    attributes = encode_fields(Flow, values) + encode_fields(RequestOnly, masks)
    if not (flags or selection.orig or selection.reply):
        return attributes
    for number, side in ((CTA.TUPLE_ORIG, selection.orig), (CTA.TUPLE_REPLY, selection.reply)):
        if side:
            attributes += pack(number, encode_fields(Tuple, side), nested=True)
    compared = FilterFlags(
        orig_flags=_compared_flags(selection.orig) if selection.orig else None,
        reply_flags=_compared_flags(selection.reply) if selection.reply else None,
    )
    return attributes + encode_fields(RequestOnly, {"filter": compared})


def _compared_flags(side: Mapping[str, object]) -> int:
    """Return the flags of the parts that the kernel is to compare."""
    proto = side.get("proto")
    known = {**_FLAGS, **_ICMP_FLAGS.get(proto, {})} if isinstance(proto, int) else _FLAGS
    flags = 0
    for name, value in side.items():
        if isinstance(value, IPv6Address):
            raise EncodeError(
                "the kernel selects the entries that do not have this IPv6 address", (name,)
            )
        if name not in known:
            raise EncodeError("the kernel cannot select by this field", (name,))
        flags |= int(known[name])
    return flags
