"""List, get, create, delete and flush expectations."""

from __future__ import annotations

from socket import AF_INET

from ...connection import Connection
from ...model.expectations import ALL_ONES, Expectation
from ...model.tuples import Tuple
from .commands import Command
from .entry_writer import EntryWriter
from .messages import FAILED, OK, report
from .protocols import ICMP, ICMPV6
from .tuple_values import TupleValues


async def list_expectations(conn: Connection, command: Command) -> int:
    """Print the expectations of one address family, by default IPv4, and return the exit status."""
    writer = EntryWriter(command, root="expect")
    async with conn.expectations.dump(family=command.family or AF_INET) as dump:
        async for expectations in dump.batches():
            writer.expectations(expectations)
    writer.close()
    report(f"{writer.count} expectations have been shown.")
    return OK


async def get_expectation(conn: Connection, command: Command) -> int:
    """Print the expectation that a command names, and return the exit status."""
    found = await conn.expectations.find(_to_tuple(command.orig, command.proto or 0))
    EntryWriter(command).expectations([found])
    return OK


async def create_expectation(conn: Connection, command: Command) -> int:
    """Create an expectation, and return the exit status.

    The kernel gives a new expectation the timeout of its helper, whatever the program sends. It
    ignores the mask of the destination.
    """
    proto = command.proto or 0
    mask = _to_tuple(command.mask, proto)
    mask.dst = ALL_ONES[type(mask.dst)]
    if mask.dport is not None:
        mask.dport = 0xFFFF
    expectation = Expectation(
        master=_to_tuple(command.orig, proto),
        tuple=_to_tuple(command.expected, proto),
        mask=mask,
    )
    await conn.expectations.create(expectation)
    return OK


async def delete_expectation(conn: Connection, command: Command) -> int:
    """Delete the expectation that a command names, and return the exit status.

    The program reports that none was shown, and fails, after it has deleted one.
    """
    found = await conn.expectations.find(_to_tuple(command.orig, command.proto or 0))
    await conn.expectations.delete(found)
    report("0 expectations have been shown.")
    return FAILED


async def flush_expectations(conn: Connection, command: Command) -> int:
    """Delete all expectations, and return the exit status."""
    await conn.expectations.flush()
    report("expectation table has been emptied.")
    return OK


def _to_tuple(given: TupleValues, proto: int) -> Tuple:
    """Return a tuple. Values of ICMP are zero, as no option gives them."""
    if proto in (ICMP, ICMPV6):
        given = given._replace(icmp_type=0, icmp_code=0, icmp_id=0)
    return given.to_tuple(proto)
