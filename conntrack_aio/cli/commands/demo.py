"""``demo``: track some connections in a separate network namespace, and print their events."""

from __future__ import annotations

import argparse

from ..parsing import Commands


def add(commands: Commands) -> None:
    """Add the subcommand."""
    commands.add(
        "demo",
        _run,
        commands.json,
        help="track some connections in a separate network namespace and print their events; "
        "needs no root",
        description="Open some connections over loopback in a separate network namespace, and "
        "print the events of the flows that the kernel tracks there. Needs no root.",
    )


def _run(options: argparse.Namespace) -> int:
    from ..demonstration import run_demo

    return run_demo(json=options.json)
