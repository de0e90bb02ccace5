"""``create``: create an entry, and print it as the kernel has it."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from ..arguments import parse_entry_text, parse_tuple_text
from ..durations import ENTRY_RANGE, FORMS, parse_new_timeout
from ..flow_options import add_state_options, check_state_of, helper_of, protoinfo_of
from ..parsing import Commands, Parser, add_tuple_argument
from ..running import run_requests
from ..value_arguments import (
    parse_labels,
    parse_mark,
    parse_nat_range,
    parse_status,
    parse_zone,
)

if TYPE_CHECKING:
    from ...connection import Connection
    from ...model.flow import Flow
    from ...model.nat import NATRange

_RANGE = "ADDRESS[-ADDRESS][:PORT[-PORT]]"


def add(commands: Commands) -> None:
    """Add the subcommand."""
    from ..tuple_arguments import TUPLE_HELP

    command = commands.add(
        "create",
        _run,
        commands.netns,
        commands.json,
        commands.dry_run,
        help="create an entry",
        description="Create an entry, and print it as the kernel then has it. A TCP entry without "
        "a state becomes ESTABLISHED. Fail if an entry has the tuple already.",
        epilog=TUPLE_HELP,
    )
    add_tuple_argument(command)
    fields = command.add_argument_group("fields")
    option = fields.add_argument
    option(
        "--timeout",
        type=parse_new_timeout,
        required=True,
        metavar="SECONDS",
        help=f"expire after this time: {FORMS}; {ENTRY_RANGE}",
    )
    option(
        "--reply",
        type=parse_tuple_text,
        metavar="TUPLE",
        help="the tuple of the replies (default: the inverse of TUPLE)",
    )
    option("--snat", type=parse_nat_range, metavar=_RANGE, help="translate the source to this")
    option("--dnat", type=parse_nat_range, metavar=_RANGE, help="translate the destination to this")
    option(
        "--zone",
        type=parse_zone,
        metavar="ZONE",
        help="set the zone of both directions; zone= in a TUPLE is that of its direction alone",
    )
    option("--mark", type=parse_mark, metavar="MARK", help="set the mark")
    option(
        "--labels",
        type=parse_labels,
        metavar="LABEL[,LABEL]",
        help="set these labels, by number or by name",
    )
    option(
        "--status",
        type=parse_status,
        metavar="BIT[,BIT]",
        help="set status bits: SEEN_REPLY, ASSURED, FIXED_TIMEOUT, HELPER",
    )
    option(
        "--master",
        type=parse_entry_text,
        metavar="TUPLE",
        help="the tuple of the entry whose helper expected this one, or its line as `list` prints "
        "it",
    )
    option("--helper", metavar="NAME", help="assign this helper, such as ftp")
    add_state_options(option)


def _run(options: argparse.Namespace) -> int | None:
    return run_requests(partial(_create, options, _flow_of(options)))


def _flow_of(options: argparse.Namespace) -> Flow:
    """Return the flow that the options describe. An invalid combination is an error."""
    from ...errors import EncodeError
    from ...model.flow import Flow
    from ..tuple_arguments import parse_tuple

    parser: Parser = options.parser
    orig = parse_tuple(parser, options.tuple)
    for name in ("snat", "dnat"):
        target: NATRange | None = getattr(options, name)
        if target is None:
            continue
        if options.reply is not None:
            parser.error(f"argument --{name}: not allowed with --reply")
        if target.address_min is not None and target.address_min.version != orig.src.version:
            parser.error(
                f"argument --{name}: {target.address_min} is not an address of the flow's family"
            )
    check_state_of(options, orig.proto)
    try:
        reply = orig.inverse if options.reply is None else options.reply
    except EncodeError as error:
        parser.error(f"argument TUPLE: {error}")
    return Flow(
        orig=orig,
        reply=reply,
        timeout=options.timeout,
        zone=options.zone,
        mark=options.mark,
        labels=options.labels,
        status=options.status,
        master=options.master,
        helper=helper_of(options),
        protoinfo=protoinfo_of(options),
        seqadj_orig=options.seqadj_orig,
        seqadj_reply=options.seqadj_reply,
        synproxy=options.synproxy,
    )


async def _create(options: argparse.Namespace, flow: Flow) -> None:
    from ...connecting import connect
    from ...errors import AlreadyExists
    from ..bulk_changes import FlowPrinter, print_one
    from ..durations import shortened
    from ..failures import CommandError
    from ..output import report
    from ..summaries import report_summary

    async with connect(netns=options.netns) as conn:
        if options.dry_run:
            await _check_creation(conn, flow)
            print_one(flow, options, "created")
            return
        try:
            created = await conn.create(flow, nat_src=options.snat, nat_dst=options.dnat)
        except AlreadyExists as error:
            raise CommandError(f"{error}. {_how_to_change(flow)}") from error
    FlowPrinter(json=options.json).write([created])
    report_summary(options, "1 flow created")
    if text := shortened(flow.timeout, created.timeout):
        report(text)
    if flow.labels and not created.labels:
        report_summary(
            options, "the kernel dropped the labels: no rule of this namespace uses labels"
        )


async def _check_creation(conn: Connection, flow: Flow) -> None:
    """Check what can be checked without creating the entry.

    :raises CommandError: when an entry has one of its tuples.
    """
    from ...errors import NotFound
    from ..failures import CommandError

    flow.validate()
    for tuple_ in (flow.orig, flow.reply):
        try:
            await conn.get(tuple_, zone=flow.zone)
        except NotFound:
            continue
        raise CommandError(f"an entry already has the tuple {tuple_}. {_how_to_change(flow)}")


def _how_to_change(flow: Flow) -> str:
    zone = "" if flow.zone is None else f" zone {flow.zone}"
    return f"To change the entry: conntrack-aio update --tuple '{flow.orig}{zone}'"
