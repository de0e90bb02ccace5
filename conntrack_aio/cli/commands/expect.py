"""``expect``: read, change and follow the connections that helpers expect."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..arguments import parse_entry_text
from ..durations import EXPECTATION_MOST, FORMS, parse_expectation_timeout
from ..flushing import add_flush, flush_listed
from ..parsing import Commands, Parser, add_tuple_argument
from ..running import connected
from ..value_arguments import (
    number,
    parse_expect_flags,
    parse_family,
    parse_zone,
)

if TYPE_CHECKING:
    from ...connection import Connection

_NOUN = "expectation"


def add(commands: Commands) -> None:
    """Add the subcommand."""
    group = commands.add_group(
        "expect",
        help="read, change and follow expectations: connections that helpers expect",
        description="Read, change and follow expectations: the connections that helpers expect, "
        "such as the data connections of FTP.",
    )
    _add_reading(group)
    _add_changing(group)


def _add_reading(group: Commands) -> None:
    shared = (group.netns, group.json)
    listing = group.add(
        "list",
        connected(_list),
        *shared,
        help="print the expectations",
        description="Print the expectations, one per line.",
    )
    _add_selection(listing)
    get = group.add(
        "get",
        connected(_get, _check_name),
        *shared,
        help="print one expectation",
        description="Print the expectation with exactly this tuple. Fail if there is none.",
    )
    _add_tuple(get)
    find = group.add(
        "find",
        connected(_find, _check_tuple),
        *shared,
        help="print the expectation that a packet would meet",
        description="Print the expectation that a connection with this first packet would meet. "
        "Fail if there is none.",
    )
    _add_tuple(find)
    count = group.add(
        "count",
        connected(_count),
        *shared,
        help="print the number of expectations",
        description="Print the number of expectations.",
    )
    _add_selection(count)
    _add_events(group)
    group.add(
        "stats",
        connected(_stats),
        *shared,
        help="print the kernel's counters of expectations",
        description="Print what each processor has counted since the network namespace was "
        "created: connections that met an expectation (new), and expectations that were created "
        "and that ended (delete).",
    )


def _add_events(group: Commands) -> None:
    from ..event_options import add_event_options

    events = group.add(
        "events",
        connected(_events, needs_loop=True),
        group.netns,
        group.json,
        help="print the events of expectations as they occur",
        description="Print the events of expectations as they occur, one per line, until "
        "interrupted.",
    )
    add_event_options(events, ["new", "destroy"])


def _add_changing(group: Commands) -> None:
    shared = (group.netns, group.json)
    create = group.add(
        "create",
        connected(_create, _check_creation),
        *shared,
        group.dry_run,
        help="create an expectation",
        description="Create an expectation, and print it as the kernel then has it. The source "
        "in the TUPLE may have no port, with the meaning of --any-sport.",
    )
    _add_tuple(create)
    _add_creation(create)
    update = group.add(
        "update",
        connected(_update, _check_name),
        *shared,
        group.dry_run,
        help="change the timeout of an expectation",
        description="Change the timeout of an expectation; nothing else of it can be changed. "
        "Fail if there is none with exactly this tuple.",
    )
    _add_tuple(update)
    update.add_argument(
        "--timeout",
        type=parse_expectation_timeout,
        required=True,
        metavar="SECONDS",
        help=f"expire after this time: {FORMS}; at most {EXPECTATION_MOST}",
    )
    delete = group.add(
        "delete",
        connected(_delete, _check_deletion),
        *shared,
        group.changes,
        help="delete expectations",
        description="Delete the expectation with exactly this tuple, and print it as it was. Fail "
        "if there is none. With --helper, delete those of all flows that have the helper.",
    )
    _add_tuple(delete, nargs="*")
    delete.add_argument(
        "--helper", metavar="NAME", help="delete the expectations of this helper, such as ftp"
    )
    add_flush(
        group,
        _flush,
        "every expectation",
        "Delete every expectation of the network namespace, and report how many there were. At a "
        "terminal, ask first.",
    )


def _add_selection(command: Parser) -> None:
    selection = command.add_mutually_exclusive_group()
    selection.add_argument(
        "--master",
        type=parse_entry_text,
        metavar="TUPLE",
        help="only those of the flow with this tuple, in either direction, or with this line of "
        "`list`",
    )
    selection.add_argument(
        "--family", type=parse_family, metavar="FAMILY", help="only those of ipv4 or of ipv6"
    )


def _add_tuple(command: Parser, nargs: str = "+") -> None:
    from ..tuple_arguments import TUPLE_HELP

    command.epilog = TUPLE_HELP
    text = "the tuple of the first packet, such as: tcp 10.1.0.1:20 10.0.0.1:2000"
    add_tuple_argument(command, nargs, text)
    command.add_argument(
        "--zone", type=parse_zone, metavar="ZONE", help="the zone of the flow that is the master"
    )


def _add_creation(command: Parser) -> None:
    option = command.add_argument
    option(
        "--master",
        type=parse_entry_text,
        required=True,
        metavar="TUPLE",
        help="the tuple of the flow that announced the connection, or its line as `list` prints "
        "it; it must have a helper",
    )
    option("--any-src", action="store_true", help="match any source address")
    option("--any-sport", action="store_true", help="match any source port, or any ICMP id")
    option(
        "--timeout",
        type=parse_expectation_timeout,
        metavar="SECONDS",
        help=f"expire after this time: {FORMS}; at most {EXPECTATION_MOST} (default: the timeout "
        "of the helper)",
    )
    option(
        "--flags",
        type=parse_expect_flags,
        metavar="FLAG[,FLAG]",
        help="PERMANENT: stay after a match; INACTIVE: match no connection",
    )
    option(
        "--class",
        dest="expect_class",
        type=number("class", 0xFFFFFFFF),
        metavar="NUMBER",
        help="the class of the expectation within its helper",
    )
    option(
        "--nat",
        metavar="ADDRESS[:PORT]",
        help="the announced address and port, if the master is translated",
    )
    option(
        "--nat-direction",
        choices=("orig", "reply"),
        help="the direction of the master in which the connection is opened (default: orig)",
    )
    option(
        "--function",
        metavar="NAME",
        help="the kernel's function for the new connection, such as nat-follow-master",
    )
    option("--helper", metavar="NAME", help="the helper of the expected connection")


def _check_tuple(options: argparse.Namespace) -> None:
    from ..tuple_arguments import parse_tuple

    options.tuple = parse_tuple(options.parser, options.tuple)


def _check_name(options: argparse.Namespace) -> None:
    """Convert the tuple of an expectation, whose source has no port if it may have any."""
    from ..tuple_arguments import parse_tuple

    options.tuple = parse_tuple(options.parser, options.tuple, any_sport=True)
    if options.tuple.sport is None and options.tuple.dport is not None:
        options.tuple.sport = 0


def _check_deletion(options: argparse.Namespace) -> None:
    if bool(options.tuple) == (options.helper is not None):
        options.parser.error("pass either a TUPLE or --helper")
    if options.tuple:
        _check_name(options)
    elif options.zone is not None:
        options.parser.error("argument --zone: not allowed with --helper")


def _check_creation(options: argparse.Namespace) -> None:
    """Set the option ``expectation`` to what the other options describe."""
    from ...errors import EncodeError
    from ...model.enums import Direction
    from ...model.expectations import Expectation, ExpectNAT
    from ..tuple_arguments import parse_endpoint, parse_tuple

    error = options.parser.error
    first = parse_tuple(options.parser, options.tuple, any_sport=True)
    any_sport = options.any_sport
    if first.sport is None and first.dport is not None:
        first.sport, any_sport = 0, True
    nat = None
    if options.nat is not None:
        announced = parse_endpoint(options.parser, options.nat, first.proto)
        nat = ExpectNAT.of(
            announced.address,
            announced.port or 0,
            direction=Direction.REPLY if options.nat_direction == "reply" else Direction.ORIGINAL,
            proto=options.master.proto,
        )
    elif options.nat_direction is not None:
        error("argument --nat-direction: needs --nat")
    try:
        options.expectation = Expectation.of(
            options.master,
            first,
            any_src=options.any_src,
            any_sport=any_sport,
            timeout=options.timeout,
            flags=options.flags,
            expect_class=options.expect_class,
            nat=nat,
            function=options.function,
        )
    except EncodeError as wrong:
        error(f"argument TUPLE: {wrong}")


async def _list(conn: Connection, options: argparse.Namespace) -> None:
    from ..object_lines import print_objects

    async with conn.expectations.dump(master=options.master, family=options.family or 0) as dump:
        async for found in dump.batches():
            print_objects(options, found)


async def _count(conn: Connection, options: argparse.Namespace) -> None:
    from ..output import write_line

    count = 0
    async with conn.expectations.dump(master=options.master, family=options.family or 0) as dump:
        async for found in dump.batches():
            count += len(found)
    write_line(f'{{"count": {count}}}' if options.json else count)


async def _get(conn: Connection, options: argparse.Namespace) -> None:
    from ..object_lines import print_objects

    print_objects(options, [await conn.expectations.get(options.tuple, zone=options.zone)])


async def _find(conn: Connection, options: argparse.Namespace) -> None:
    from ..object_lines import print_objects

    print_objects(options, [await conn.expectations.find(options.tuple, zone=options.zone)])


async def _stats(conn: Connection, options: argparse.Namespace) -> None:
    from ..object_lines import print_objects

    print_objects(options, await conn.expectations.cpu_statistics())


async def _events(conn: Connection, options: argparse.Namespace) -> None:
    from ...model.enums import EventType
    from ..event_lines import print_events

    async with conn.expectations.events(
        *[EventType(name) for name in options.type],
        receive_buffer=options.receive_buffer,
        all_netns=options.all_netns,
        receive_time=options.receive_time,
    ) as stream:
        if not options.quiet:
            from ..hints import report_for_events

            await report_for_events(conn, stream)
        await print_events(stream, options)


async def _create(conn: Connection, options: argparse.Namespace) -> None:
    from ...errors import AlreadyExists
    from ..failures import CommandError
    from ..object_lines import print_one

    wanted, helper, zone = options.expectation, options.helper, options.zone
    try:
        if options.dry_run:
            from ..planned_changes import expectation_to_create

            created = await expectation_to_create(conn, wanted, helper=helper, zone=zone)
        else:
            created = await conn.expectations.create(wanted, helper=helper, zone=zone)
    except AlreadyExists as error:
        raise CommandError(
            f"{error.request}: there is one with this tuple; to change its timeout: "
            "conntrack-aio expect update TUPLE --timeout SECONDS"
        ) from error
    print_one(options, created, _NOUN, "created")


async def _update(conn: Connection, options: argparse.Namespace) -> None:
    from ..object_lines import print_one

    found = await conn.expectations.get(options.tuple, zone=options.zone)
    if not options.dry_run:
        await conn.expectations.update(found, timeout=options.timeout, zone=options.zone)
    found.timeout = options.timeout
    print_one(options, found, _NOUN, "updated")


async def _delete(conn: Connection, options: argparse.Namespace) -> None:
    from ..confirmation import confirm_many
    from ..object_lines import print_all
    from ..summaries import count_of

    if options.tuple:
        found = [await conn.expectations.get(options.tuple, zone=options.zone)]
    else:
        found = [each for each in await conn.expectations.list() if each.helper == options.helper]
    if options.dry_run:
        print_all(options, found, _NOUN, "deleted")
        return
    confirm_many(
        options, len(found), f"delete {count_of(len(found), _NOUN)}", "nothing was deleted"
    )
    if options.tuple:
        await conn.expectations.delete(found[0], zone=options.zone)
    else:
        await conn.expectations.delete_by_helper(options.helper)
    print_all(options, found, _NOUN, "deleted")


async def _flush(conn: Connection, options: argparse.Namespace) -> None:
    found = await conn.expectations.list()
    await flush_listed(options, found, _NOUN, conn.expectations.flush)
