"""Build acknowledgements and error messages as the kernel does (``netlink_ack``)."""

from __future__ import annotations

import struct
from collections.abc import Collection

from ..netlink import messages
from ..netlink.attributes import pack, pack_text
from ..uapi.netlink import NETLINK_OPTION, NLM_F, NLMSGERR_ATTR
from .received import ReceivedRequest


def error_message(
    request: ReceivedRequest,
    options: Collection[int],
    port_id: int,
    code: int = 0,
    detail: str | None = None,
    offset: int | None = None,
) -> bytes:
    """Return the NLMSG_ERROR that acknowledges a request.

    :param request: the request.
    :param options: the netlink options of the socket: NETLINK_CAP_ACK leaves the request's payload
        out of errors, and NETLINK_EXT_ACK adds ``detail`` and ``offset``.
    :param port_id: the port id of the socket.
    :param code: the errno; 0 is success.
    :param detail: the text of the extended acknowledgement.
    :param offset: bytes from the start of the request to the offending attribute.
    """
    flags = 0
    size = messages.HEADER_SIZE + len(request.payload)
    echoed = messages.HEADER.pack(size, request.type, request.flags, request.seq, 0)
    if code and NETLINK_OPTION.CAP_ACK not in options:
        echoed += request.payload + bytes(-len(request.payload) & 3)
    else:
        flags |= NLM_F.CAPPED
    extended = _extended_ack(detail, offset if code else None)
    if extended and NETLINK_OPTION.EXT_ACK in options:
        flags |= NLM_F.ACK_TLVS
    else:
        extended = b""
    payload = struct.pack("=i", -code) + echoed + extended
    return messages.pack(messages.ERROR, flags, request.seq, payload, port_id)


def _extended_ack(detail: str | None, offset: int | None) -> bytes:
    """Return the attributes of an extended acknowledgement.

    ``NLMSGERR_ATTR_POLICY`` is missing, since the library does not use it.
    """
    attributes = b"" if detail is None else pack_text(NLMSGERR_ATTR.MSG, detail)
    if offset is not None:
        attributes += pack(NLMSGERR_ATTR.OFFS, struct.pack("=I", offset))
    return attributes
