"""``install-links``: make the links ``conntrack`` and ``nfct`` to this program."""

from __future__ import annotations

import argparse

from ..parsing import Commands


def add(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add(
        "install-links",
        _run,
        help="make the links conntrack and nfct to this program",
        description="Make the links conntrack and nfct to this program in a directory. Under these "
        "names it takes the arguments of conntrack(8) and nfct(8). Nothing that is there is "
        "replaced. For an interactive shell, `alias conntrack=conntrack-aio` does the same.",
    )
    command.add_argument(
        "--force",
        action="store_true",
        help="replace files of these names, such as those of conntrack-tools",
    )
    command.add_argument(
        "directory", metavar="DIR", help="the directory, such as /usr/local/sbin; it must exist"
    )


def _run(options: argparse.Namespace) -> None:
    import sys

    from ..output import report, write_line
    from ..program_links import earlier_in_path, make_links, path_of_program

    program = path_of_program(sys.argv[0])
    for link, is_new in make_links(program, options.directory, replace=options.force):
        write_line(f"{link} -> {program}" if is_new else f"{link} is already there")
        if not options.quiet and (problem := earlier_in_path(link)) is not None:
            report(problem)
