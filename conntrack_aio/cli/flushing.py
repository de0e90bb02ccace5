"""The subcommands that delete every object of one kind, which share their options and questions."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Sequence

from .parsing import Commands
from .running import Action, connected


def add_flush(commands: Commands, action: Action, objects: str, description: str) -> None:
    """Add the subcommand ``flush``, which requires ``--all``.

    :param commands: the subcommands to add it to.
    :param action: deletes the objects.
    :param objects: what every one of them is called, such as ``every flow``.
    :param description: what the subcommand does.
    """

    def require_all(options: argparse.Namespace) -> None:
        if not options.all:
            options.parser.error(f"--all is required, for this deletes {objects}")

    command = commands.add(
        "flush",
        connected(action, require_all),
        commands.netns,
        commands.json,
        commands.changes,
        help=f"delete {objects}",
        description=f"{description} With --json, print an object with the number: deleted.",
    )
    command.add_argument("--all", action="store_true", help=f"required: delete {objects}")


async def flush_listed(
    options: argparse.Namespace,
    found: Sequence[object],
    noun: str,
    flush: Callable[[], Awaitable[None]],
) -> None:
    """Delete objects that were listed: ask, delete all of them, and report how many there were.

    :param options: the options of the subcommand.
    :param found: the objects.
    :param noun: what one of them is called, such as ``expectation``.
    :param flush: deletes all of them.
    """
    from .object_lines import print_all
    from .summaries import count_of, report_numbers

    if options.dry_run:
        print_all(options, found, noun, "deleted")
        return
    count = count_of(len(found), noun)
    if found:
        confirm_flush(options, noun, count)
    await flush()
    report_numbers(options, {"deleted": len(found)}, f"{count} deleted")


def confirm_flush(options: argparse.Namespace, noun: str, count: str) -> None:
    """Ask the person at the terminal, if there is one, whether to delete every object.

    :param options: the options of the subcommand: ``yes``.
    :param noun: what one object is called.
    :param count: how many there are, with the noun.
    :raises CommandError: when the person declines.
    """
    from .confirmation import confirm, is_person_asked

    if is_person_asked(options):
        confirm(f"delete every {noun} ({count})", "nothing was deleted")
