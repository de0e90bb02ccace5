"""``helpers``: read and change the user-space helpers of the machine."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from ..durations import FORMS, parse_policy_timeout
from ..flushing import add_flush, flush_listed
from ..parsing import Commands, Parser
from ..running import connected
from ..value_arguments import number, parse_family, parse_protocol

if TYPE_CHECKING:
    from ...connection import Connection
    from ...model.helpers import ExpectPolicy, HelperStatus

_NOUN = "user-space helper"
_STATUS: Final = ("enabled", "disabled")


def add(commands: Commands) -> None:
    """Add the subcommand."""
    group = commands.add_group(
        "helpers",
        help="read and change user-space helpers",
        description="Read and change the user-space helpers of the machine: programs that read "
        "the packets of connections from an NFQUEUE. A rule assigns a helper: iptables -j CT "
        "--helper NAME. All network namespaces share the list, which does not have the helpers "
        "inside the kernel.",
    )
    _add_reading(group)
    _add_changing(group)


def _add_reading(group: Commands) -> None:
    listing = group.add(
        "list",
        connected(_list),
        group.netns,
        group.json,
        help="print the helpers",
        description="Print the helpers, one per line: all, or those with the given values.",
    )
    listing.add_argument("--name", metavar="NAME", help="only helpers of this name")
    listing.add_argument(
        "--family", type=parse_family, metavar="FAMILY", help="only those of ipv4 or of ipv6"
    )
    listing.add_argument(
        "--proto", type=parse_protocol, metavar="PROTO", help="only those of this protocol"
    )
    get = group.add(
        "get",
        connected(_get),
        group.netns,
        group.json,
        help="print one helper",
        description="Print one helper. Fail if there is none with this name, family and protocol.",
    )
    _add_key(get)


def _add_changing(group: Commands) -> None:
    shared = (group.netns, group.json)
    create = group.add(
        "create",
        connected(_create, _check_policies),
        *shared,
        group.dry_run,
        help="create a helper",
        description="Create a helper, and print it as the kernel then has it.",
    )
    _add_key(create)
    _add_values(create, required=True)
    create.add_argument(
        "--private-data-length",
        type=number("length", 32),
        metavar="BYTES",
        help="the bytes of private data of each connection, up to 32 (default: 0)",
    )
    update = group.add(
        "update",
        connected(_update, _check_update),
        *shared,
        group.dry_run,
        help="change a helper",
        description="Change the given values of a helper, and print it as the kernel then has it. "
        "Fail if there is none with this name, family and protocol. Policies must have the same "
        "names and order as before, and all of them the same limits.",
    )
    _add_key(update)
    _add_values(update, required=False)
    delete = group.add(
        "delete",
        connected(_delete),
        *shared,
        group.dry_run,
        help="delete a helper",
        description="Delete a helper, and print it as it was. Fail if there is none with this "
        "name, family and protocol, or if a rule or a connection uses it.",
    )
    _add_key(delete)
    add_flush(
        group,
        _flush,
        "every user-space helper",
        "Delete the user-space helpers of the machine, whichever program created them, and report "
        "how many. Those that a rule or a connection uses stay. At a terminal, ask first.",
    )


def _add_key(command: Parser) -> None:
    command.add_argument("name", metavar="NAME", help="the name, up to 15 bytes, such as ftp")
    command.add_argument(
        "family", type=parse_family, metavar="FAMILY", help="the address family: ipv4 or ipv6"
    )
    command.add_argument(
        "proto", type=parse_protocol, metavar="PROTO", help="the protocol, such as tcp"
    )


def _add_values(command: Parser, *, required: bool) -> None:
    command.add_argument(
        "--policy",
        dest="policies",
        type=_parse_policy,
        action="append",
        required=required,
        metavar="NAME:MAX:SECONDS",
        help="the limits of a class of expectations: its name, how many a connection may have at "
        f"a time, and their timeout, {FORMS} (up to four times, in order)",
    )
    command.add_argument(
        "--queue", type=number("queue", 0xFFFF), metavar="NUMBER", help="the NFQUEUE, 0 to 65535"
    )
    command.add_argument(
        "--status",
        choices=_STATUS,
        help="whether packets are queued" + (" (default: disabled)" if required else ""),
    )


def _parse_policy(value: str) -> ExpectPolicy:
    from ...model.helpers import ExpectPolicy

    name, *limits = value.rsplit(":", 2)
    if not name or len(limits) != 2:
        raise argparse.ArgumentTypeError(
            f"{value[:40]!r} is not NAME:MAX:SECONDS, such as ftp:1:300"
        )
    return ExpectPolicy(
        name=name,
        expect_max=number("number of expectations", 255)(limits[0]),
        expect_timeout=parse_policy_timeout(limits[1]),
    )


def _check_policies(options: argparse.Namespace) -> None:
    if options.policies is not None and len(options.policies) > 4:
        options.parser.error("argument --policy: a helper has at most four")


def _check_update(options: argparse.Namespace) -> None:
    if options.policies is options.queue is options.status is None:
        options.parser.error("nothing to change; pass --policy, --queue or --status")
    _check_policies(options)


def _key_of(options: argparse.Namespace) -> tuple[str, int, int]:
    return options.name, options.family, options.proto


def _status_of(options: argparse.Namespace) -> HelperStatus | None:
    from ...model.helpers import HelperStatus

    return None if options.status is None else HelperStatus[options.status.upper()]


async def _list(conn: Connection, options: argparse.Namespace) -> None:
    from ..object_lines import print_objects

    async with conn.helpers.dump(
        name=options.name, family=options.family, proto=options.proto
    ) as dump:
        async for helpers in dump.batches():
            print_objects(options, helpers)


async def _get(conn: Connection, options: argparse.Namespace) -> None:
    from ..object_lines import print_objects

    print_objects(options, [await conn.helpers.get(*_key_of(options))])


async def _create(conn: Connection, options: argparse.Namespace) -> None:
    from ...errors import AlreadyExists
    from ...model.helpers import UserspaceHelper
    from ..failures import CommandError
    from ..object_lines import print_one

    helper = UserspaceHelper(
        name=options.name,
        family=options.family,
        proto=options.proto,
        policies=tuple(options.policies),
        queue=options.queue,
        private_data_length=options.private_data_length,
        status=_status_of(options),
    )
    try:
        if options.dry_run:
            from ..planned_changes import helper_to_create

            created = await helper_to_create(conn, helper)
        else:
            created = await conn.helpers.create(helper)
    except AlreadyExists as error:
        raise CommandError(
            f"{error.request}: there is one with this name, family and protocol; "
            "`helpers update` changes it"
        ) from error
    print_one(options, created, _NOUN, "created")


async def _update(conn: Connection, options: argparse.Namespace) -> None:
    from ..object_lines import print_one

    key = _key_of(options)
    queue, policies, status = options.queue, options.policies, _status_of(options)
    if options.dry_run:
        from ..planned_changes import helper_to_update

        updated = await helper_to_update(conn, key, queue=queue, policies=policies, status=status)
    else:
        await conn.helpers.update(*key, queue=queue, policies=policies, status=status)
        updated = await conn.helpers.get(*key)
    print_one(options, updated, _NOUN, "updated")


async def _delete(conn: Connection, options: argparse.Namespace) -> None:
    from ..object_lines import print_one

    found = await conn.helpers.get(*_key_of(options))
    if not options.dry_run:
        await conn.helpers.delete(*found.key)
    print_one(options, found, _NOUN, "deleted")


async def _flush(conn: Connection, options: argparse.Namespace) -> None:
    await flush_listed(options, await conn.helpers.list(), _NOUN, conn.helpers.flush)
