"""Questions about the kernel itself, whose refusals are the answers.

None of them changes anything, on whatever kernel: what an older one does not know, it ignores.
"""

from __future__ import annotations

import errno
from socket import AF_INET
from types import MappingProxyType
from typing import Final

from ...model.requests import FilterFlags, RequestOnly
from ...netlink.attributes import pack
from ...netlink.exchange import Request
from ...netlink.messages import Failure
from ...uapi.netlink import NLM_F
from ...uapi.nf_internals import CTA_FILTER_F
from ...uapi.nfnetlink import NFNL_SUBSYS
from ...uapi.nfnetlink_conntrack import CTA, CTA_IP, CTA_PROTO, CTA_TUPLE, IPCTNL_MSG_CT
from ..reference import encode, encode_fields
from .common import request

_CT = NFNL_SUBSYS.CTNETLINK
_DUMP = int(NLM_F.DUMP)
_WORDS = ("ask", "what this kernel supports")

_NOBODY: Final = pack(
    CTA.TUPLE_ORIG,
    pack(CTA_TUPLE.IP, pack(CTA_IP.V4_SRC, bytes(4)) + pack(CTA_IP.V4_DST, bytes(4)), nested=True)
    + pack(CTA_TUPLE.PROTO, pack(CTA_PROTO.NUM, b"\xff"), nested=True),
    nested=True,
)
"""The complete tuple of an entry that there is not: from and to no address, of no protocol."""


def attribute(number: CTA, size: int = 1) -> Request:
    """Whether an attribute is known: a GET of nothing, with one that can't be of this size.

    Attributes are looked at before it is seen that there is no tuple. See :func:`is_known`.
    """
    return request(*_WORDS, _CT, IPCTNL_MSG_CT.GET, pack(number, bytes(size)))


def is_known(failure: Failure | None) -> bool:
    """ERANGE says that it is too short; EINVAL that a program may not send it, where the kernel
    points at it, and that there is no tuple, where it points at nothing."""
    if failure is None:
        return False
    return failure.errno == errno.ERANGE or (
        failure.errno == errno.EINVAL and failure.offset is not None
    )


def zone_filter() -> Request:
    """A dump by zone 0 and by a mask without a mark: refused where zones make it a filter.

    (A mask without a mark is an error in a filter, and without one it is not looked at.)
    """
    attributes = pack(CTA.ZONE, bytes(2)) + encode_fields(RequestOnly, {"mark_mask": 0})
    return request(*_WORDS, _CT, IPCTNL_MSG_CT.GET, attributes, flags=_DUMP)


def flush_filter() -> Request:
    """A delete of nobody's tuple with a filter that is not marked as a nest.

    EINVAL is of kernels that look at the filter, ENOENT of those that look for the tuple alone.
    Should one take the filter as it is: it is for nobody's tuple too, and for a mark that has a
    bit which its mask lacks, so that nothing can match.
    """
    flags = CTA_FILTER_F.CTA_IP_SRC | CTA_FILTER_F.CTA_IP_DST | CTA_FILTER_F.CTA_PROTO_NUM
    attributes = (
        _NOBODY
        + pack(CTA.FILTER, encode(FilterFlags(orig_flags=int(flags))))
        + pack(CTA.ID, bytes(4))
        + pack(CTA.MARK, b"\0\0\0\1")
        + pack(CTA.MARK_MASK, bytes(4))
    )
    return request(*_WORDS, _CT, IPCTNL_MSG_CT.DELETE, attributes, family=AF_INET)


def subsystem(number: NFNL_SUBSYS, message: int) -> Request:
    """A dump of what the subsystem keeps: EINVAL where the kernel lacks it."""
    return request(
        *_WORDS, number, message, flags=_DUMP, hints=MappingProxyType({errno.EINVAL: "absent"})
    )
