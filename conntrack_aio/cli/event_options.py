"""The options of subcommands that print events."""

from __future__ import annotations

import argparse
from collections.abc import Collection

from ..streams.buffer_sizes import DEFAULT_RECEIVE_BUFFER
from .arguments import invalid_choice, parse_size
from .parsing import Parser, set_words


def add_event_options(command: Parser, types: Collection[str]) -> None:
    """Add the options ``type``, ``all_netns``, ``receive_buffer`` and ``receive_time``.

    :param command: the subcommand.
    :param types: the event types that the kernel sends, by name.
    """

    def parse_types(value: str) -> list[str]:
        names = [name.strip() for name in value.split(",")]
        for name in names:
            if name not in types:
                raise argparse.ArgumentTypeError(invalid_choice(name, types))
        return names

    option = command.add_argument(
        "--type",
        type=parse_types,
        action="extend",
        default=[],
        metavar="TYPE[,TYPE]",
        help=f"print only events of these types: {', '.join(types)} (may be repeated)",
    )
    set_words(option, types)
    command.add_argument(
        "--all-netns",
        action="store_true",
        help="print the events of every network namespace that has an id in this one; "
        "`ip netns set NAME auto` assigns an id",
    )
    command.add_argument(
        "--receive-buffer",
        type=parse_size,
        metavar="BYTES",
        help="let this many bytes of events wait to be read, such as 8388608, 8192K or 8M "
        f"(default: {DEFAULT_RECEIVE_BUFFER >> 20}M); N bytes hold about N/640 events",
    )
    command.add_argument(
        "--receive-time", action="store_true", help="add the time at which each event was received"
    )
