"""Make the tuples of the entries that command lines name."""

from __future__ import annotations

import os

from ...model.tuples import Tuple
from .commands import Command
from .messages import CommandFailure
from .protocols import ICMP, ICMPV6
from .tuple_values import TupleValues


def named_tuple(command: Command) -> Tuple:
    """Return the tuple of the original direction that ``-G`` asks for.

    :raises CommandFailure: when ports of replies are given without an address of replies. The
        program cannot make a request then, and reports the error number 0.
    :raises EncodeError: when the tuple is incomplete.
    """
    reply = command.reply
    if not reply.has_address and (reply.sport is not None or reply.dport is not None):
        raise CommandFailure(f"Operation failed: {os.strerror(0)}")
    return to_tuple(command.orig, command.proto or 0)


def complete_tuple(command: Command) -> Tuple:
    """Return the tuple of the original direction, without a zone, of a command that gives it."""
    return to_tuple(command.orig._replace(zone=None), command.proto or 0)


def to_tuple(given: TupleValues, proto: int) -> Tuple:
    """Return the tuple with the values of one direction.

    :raises EncodeError: when the values do not suffice.
    """
    if proto in (ICMP, ICMPV6) and given.icmp_id is None:
        given = given._replace(icmp_id=0)
    return given.to_tuple(proto)
