"""Decode the replies to requests.

Each function raises:

:raises KernelError: when the kernel refused the request.
:raises NoReply: when the kernel acknowledged the request without a reply.
:raises DecodeError: when the reply cannot be decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..codec.messages import expectation_of, flow_of, timeout_policy_of
from ..errors import NoReply
from ..model.expectations import Expectation
from ..model.flow import Flow
from ..model.timeouts import TimeoutPolicy
from ..netlink.exchange import Reply, Response

T = TypeVar("T")


def flow_in(response: Response) -> Flow:
    """Return the entry in the reply."""
    return _object_in(response, "entry", flow_of)


def expectation_in(response: Response) -> Expectation:
    """Return the expectation in the reply."""
    return _object_in(response, "expectation", expectation_of)


def policy_in(response: Response) -> TimeoutPolicy:
    """Return the timeout policy in the reply."""
    return _object_in(response, "policy", timeout_policy_of)


def _object_in(response: Response, what: str, read: Callable[[Reply], T]) -> T:
    replies = response.result()
    if not replies:
        raise NoReply(f"{response.request}: the kernel's reply has no {what}")
    return read(replies[0])
