"""Requests that find out what the kernel supports, by whether it refuses them.

None of them changes anything on any kernel: an older kernel ignores what it does not know.
"""

from __future__ import annotations

import errno
from socket import AF_INET
from types import MappingProxyType
from typing import Final

from ...model.requests import FilterFlags, RequestOnly
from ...netlink.attributes import pack
from ...netlink.exchange import Request
from ...netlink.messages import Completion
from ...uapi.netlink import NLM_F
from ...uapi.nf_internals import CTA_FILTER_F
from ...uapi.nfnetlink import NFNL_SUBSYS
from ...uapi.nfnetlink_conntrack import CTA, CTA_IP, CTA_PROTO, CTA_TUPLE, IPCTNL_MSG_CT
from ..reference import encode, encode_fields
from .request import request

_CT = NFNL_SUBSYS.CTNETLINK
_DUMP = int(NLM_F.DUMP)
_VERB_AND_SUBJECT: Final = ("ask", "what this kernel supports")
"""How errors name the requests."""

_TUPLE_OF_NO_ENTRY: Final = pack(
    CTA.TUPLE_ORIG,
    pack(CTA_TUPLE.IP, pack(CTA_IP.V4_SRC, bytes(4)) + pack(CTA_IP.V4_DST, bytes(4)), nested=True)
    + pack(CTA_TUPLE.PROTO, pack(CTA_PROTO.NUM, b"\xff"), nested=True),
    nested=True,
)
"""A complete tuple that no entry has: from and to address 0, of protocol 255."""


def probe_attribute(number: CTA, size: int = 1) -> Request:
    """Return the request that shows whether the kernel knows an attribute.

    It is a GET without a tuple, with the attribute in a size that is not valid. The kernel checks
    the attributes before it notices that there is no tuple. :func:`is_attribute_known` interprets
    the response.
    """
    return request(*_VERB_AND_SUBJECT, _CT, IPCTNL_MSG_CT.GET, pack(number, bytes(size)))


def is_attribute_known(completion: Completion | None) -> bool:
    """Return whether the kernel knows an attribute, by its response to :func:`probe_attribute`.

    ERANGE means that the attribute is too short. EINVAL with an offset means that a program may not
    send the attribute. EINVAL without an offset means that there is no tuple.
    """
    if completion is None:
        return False
    return completion.errno == errno.ERANGE or (
        completion.errno == errno.EINVAL and completion.offset is not None
    )


def probe_zone_filter() -> Request:
    """Return the request that a kernel refuses if it filters dumps by zone.

    It is a dump with zone 0 and with a mask without a mark. In a filter, a mask without a mark is
    an error; otherwise the kernel ignores the mask.
    """
    attributes = pack(CTA.ZONE, bytes(2)) + encode_fields(RequestOnly, {"mark_mask": 0})
    return request(*_VERB_AND_SUBJECT, _CT, IPCTNL_MSG_CT.GET, attributes, flags=_DUMP)


def probe_flush_filter() -> Request:
    """Return the request that shows whether the kernel applies filters to deletes.

    It is a delete with a tuple that no entry has, and with a filter that is not marked as a nest.
    EINVAL means that the kernel reads the filter, ENOENT that it only looks for the tuple. If a
    kernel accepted the filter, nothing could match it: it selects the tuple that no entry has, and
    a mark with a bit outside its mask.
    """
    flags = CTA_FILTER_F.CTA_IP_SRC | CTA_FILTER_F.CTA_IP_DST | CTA_FILTER_F.CTA_PROTO_NUM
    attributes = (
        _TUPLE_OF_NO_ENTRY
        + pack(CTA.FILTER, encode(FilterFlags(orig_flags=int(flags))))
        + pack(CTA.ID, bytes(4))
        + pack(CTA.MARK, b"\0\0\0\1")
        + pack(CTA.MARK_MASK, bytes(4))
    )
    return request(*_VERB_AND_SUBJECT, _CT, IPCTNL_MSG_CT.DELETE, attributes, family=AF_INET)


def probe_subsystem(number: NFNL_SUBSYS, message: int) -> Request:
    """Return the dump of a subsystem, which the kernel answers with EINVAL if it lacks it."""
    return request(
        *_VERB_AND_SUBJECT,
        number,
        message,
        flags=_DUMP,
        hints=MappingProxyType({errno.EINVAL: "absent"}),
    )
