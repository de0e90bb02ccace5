"""Read the messages about timeout policies and user-space helpers."""

from __future__ import annotations

from typing import Final

from ..errors import DecodeError
from ..model.helpers import UserspaceHelper
from ..model.timeouts import TimeoutPolicy
from ..netlink import nfnetlink
from ..netlink.exchange import Reply
from ..netlink.messages import Message
from ..uapi.nfnetlink import NFNL_SUBSYS
from ..uapi.nfnetlink_cthelper import NFNL_MSG_CTHELPER
from ..uapi.nfnetlink_cttimeout import IPCTNL_MSG_TIMEOUT
from .decoder import Decoder
from .messages import only, read_reply
from .reference import decode_fields

_TIMEOUT = NFNL_SUBSYS.CTNETLINK_TIMEOUT
TIMEOUT_NEW = nfnetlink.message_type(_TIMEOUT, IPCTNL_MSG_TIMEOUT.NEW)
TIMEOUT_DEFAULT_SET = nfnetlink.message_type(_TIMEOUT, IPCTNL_MSG_TIMEOUT.DEFAULT_SET)
CTHELPER_NEW = nfnetlink.message_type(NFNL_SUBSYS.CTHELPER, NFNL_MSG_CTHELPER.NEW)

decode_timeout_policy: Final = Decoder(TimeoutPolicy, "a timeout policy", only(TIMEOUT_NEW))
"""Reads a policy of a dump or of the reply to GET."""

decode_helper: Final = Decoder(UserspaceHelper, "a helper", only(CTHELPER_NEW))
"""Reads a helper of a dump or of the reply to GET."""


def timeout_policy_of(reply: Reply) -> TimeoutPolicy:
    """Return the timeout policy in a reply.

    :raises DecodeError: when the reply cannot be decoded.
    """
    return read_reply(decode_timeout_policy, reply)


def helper_of(reply: Reply) -> UserspaceHelper:
    """Return the helper in a reply.

    :raises DecodeError: when the reply cannot be decoded.
    """
    return read_reply(decode_helper, reply)


def default_timeouts_of(reply: Reply) -> object:
    """Return the timeouts in the reply to ``DEFAULT_GET``, which is a ``DEFAULT_SET`` message.

    :returns: the timeouts; ``None`` if the reply has none that the library knows.

    :raises DecodeError: when the reply cannot be decoded.
    """
    if reply.type != TIMEOUT_DEFAULT_SET:
        raise DecodeError(f"a message of type {reply.type:#x} has no default timeouts")
    nfnetlink.parse(reply.payload, _whole(reply))
    fields = decode_fields(TimeoutPolicy, reply.payload, nfnetlink.SIZE, len(reply.payload))
    return fields.get("timeouts")


def _whole(reply: Reply) -> Message:
    return Message(reply.type, reply.flags, 0, 0, 0, len(reply.payload))
