"""What the answers to requests are read as."""

from __future__ import annotations

from ..codec.messages import flow_of
from ..errors import NoReply
from ..model.flow import Flow
from ..netlink.exchange import Outcome


def the_flow(outcome: Outcome) -> Flow:
    """The entry in the answer to a request. Raises what was refused, or :exc:`NoReply`."""
    replies = outcome.result()
    if not replies:
        raise NoReply(f"{outcome.request}: the kernel's answer has no entry")
    return flow_of(replies[0])
