"""The command ``conntrack-aio``."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status: 0, 1 for a failure, 2 for bad arguments, 130 for Ctrl-C."""
    from .command import run

    return run(arguments)
