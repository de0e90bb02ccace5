"""Decode the replies to requests.

Each function raises:

:raises KernelError: when the kernel refused the request.
:raises NoReply: when the kernel acknowledged the request without a reply.
:raises DecodeError: when the reply cannot be decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..codec.messages import flow_of
from ..errors import NoReply
from ..model.flow import Flow
from ..netlink.exchange import Reply, Response

T = TypeVar("T")


def flow_in(response: Response) -> Flow:
    """Return the entry in the reply."""
    return object_in(response, "entry", flow_of)


def object_in(response: Response, what: str, read: Callable[[Reply], T]) -> T:
    """Return an object in the reply.

    :param response: the request and its replies.
    :param what: what the object is, for errors.
    :param read: reads it.
    """
    replies = response.result()
    if not replies:
        raise NoReply(f"{response.request}: the kernel's reply has no {what}")
    return read(replies[0])
