"""What the answers to requests are read as.

Each raises what the request was refused with; :exc:`NoReply` for an answer without what was asked
for; and :exc:`DecodeError`.
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


def the_flow(outcome: Response) -> Flow:
    """The entry in the answer."""
    return _the_one(outcome, "entry", flow_of)


def the_expectation(outcome: Response) -> Expectation:
    """The expectation in the answer."""
    return _the_one(outcome, "expectation", expectation_of)


def the_policy(outcome: Response) -> TimeoutPolicy:
    """The timeout policy in the answer."""
    return _the_one(outcome, "policy", timeout_policy_of)


def _the_one(outcome: Response, what: str, read: Callable[[Reply], T]) -> T:
    replies = outcome.result()
    if not replies:
        raise NoReply(f"{outcome.request}: the kernel's answer has no {what}")
    return read(replies[0])
