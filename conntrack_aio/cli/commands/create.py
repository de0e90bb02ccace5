"""``create``: create an entry, and print it as the kernel has it."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from ..arguments import parse_entry_text, parse_tuple_text
from ..flow_options import add_state_options, helper_of, protoinfo_of
from ..parsing import Commands, Parser, add_tuple_argument
from ..running import run_requests
from ..value_arguments import (
    parse_labels,
    parse_mark,
    parse_nat_range,
    parse_seconds,
    parse_status,
    parse_zone,
)

if TYPE_CHECKING:
    from ...model.flow import Flow

_RANGE = "ADDRESS[-ADDRESS][:PORT[-PORT]]"


def add(commands: Commands) -> None:
    """Add the subcommand."""
    from ..tuple_arguments import TUPLE_HELP

    command = commands.add(
        "create",
        _run,
        commands.netns,
        commands.json,
        help="create an entry",
        description="Create an entry, and print it as the kernel then has it. A TCP entry without "
        "a state becomes ESTABLISHED. It is an error if an entry has the tuple already.",
        epilog=TUPLE_HELP,
    )
    add_tuple_argument(command)
    fields = command.add_argument_group("fields")
    option = fields.add_argument
    option(
        "--timeout",
        type=parse_seconds,
        required=True,
        metavar="SECONDS",
        help="expire so many seconds from now, such as 600, 10m or 2h",
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
        help="the zone of both directions; zone= in a tuple is that of its direction alone",
    )
    option("--mark", type=parse_mark, metavar="MARK", help="the mark")
    option(
        "--labels",
        type=parse_labels,
        metavar="LABEL[,LABEL]",
        help="the labels, by number or by name",
    )
    option(
        "--status",
        type=parse_status,
        metavar="BIT[,BIT]",
        help="the status bits: SEEN_REPLY, ASSURED, FIXED_TIMEOUT, HELPER",
    )
    option(
        "--master",
        type=parse_entry_text,
        metavar="TUPLE",
        help="the tuple of the entry whose helper expected this one, or its line as `list` prints "
        "it",
    )
    option("--helper", metavar="NAME", help="the helper, such as ftp")
    add_state_options(option)


def _run(options: argparse.Namespace) -> int | None:
    return run_requests(partial(_create, options, _flow_of(options)))


def _flow_of(options: argparse.Namespace) -> Flow:
    """Return the flow that the options describe. An invalid combination is an error."""
    from ...errors import EncodeError
    from ...model.flow import Flow
    from ...model.protocols import TCP
    from ..tuple_arguments import parse_tuple

    parser: Parser = options.parser
    orig = parse_tuple(parser, options.tuple)
    for name in ("snat", "dnat"):
        if options.reply is not None and getattr(options, name) is not None:
            parser.error(f"argument --{name}: not allowed with --reply")
    if options.state is not None and orig.proto != TCP:
        parser.error("argument --state: only flows of tcp have this; see --protoinfo")
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
    from ..bulk_changes import FlowPrinter
    from ..failures import CommandError
    from ..summaries import report_summary

    async with connect(netns=options.netns) as conn:
        try:
            created = await conn.create(flow, nat_src=options.snat, nat_dst=options.dnat)
        except AlreadyExists as error:
            zone = "" if flow.zone is None else f" zone {flow.zone}"
            raise CommandError(
                f"{error}. To change the entry: conntrack-aio update --tuple '{flow.orig}{zone}'"
            ) from error
    FlowPrinter(json=options.json).write([created])
    report_summary(options, "1 flow created")
    if flow.labels and not created.labels:
        report_summary(
            options, "the kernel dropped the labels: no rule of this namespace uses labels"
        )
