"""``completion``: print the script by which a shell completes command lines."""

from __future__ import annotations

import argparse

from ..parsing import Commands

_SHELLS = ("bash", "zsh", "fish")
_PROGRAMS = ("conntrack-aio", "conntrack", "nfct")


def add(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add(
        "completion",
        _run,
        help="print the script by which a shell completes command lines",
        description="Print the script by which a shell completes command lines of this program. "
        "It is also installed where shells search for it, below share/ of the installation. If "
        "your shell does not search there, as for a virtual environment, let it read the output: "
        'in bash `eval "$(conntrack-aio completion bash)"`, in zsh the same with zsh, after '
        "compinit, and in fish `conntrack-aio completion fish | source`.",
    )
    command.add_argument("shell", choices=_SHELLS, metavar="SHELL", help="bash, zsh or fish")
    command.add_argument(
        "program",
        nargs="?",
        choices=_PROGRAMS,
        default=_PROGRAMS[0],
        metavar="PROGRAM",
        help="the name of the program: conntrack-aio, or one of those that install-links makes, "
        "conntrack or nfct (default: conntrack-aio)",
    )


def _run(options: argparse.Namespace) -> None:
    from ..completion.script_source import script_of
    from ..output import write_lines

    write_lines(script_of(options.shell, options.program))
