"""``features``: print what this kernel supports."""

from __future__ import annotations

import argparse
from functools import partial

from ..parsing import Commands
from ..running import run_requests


def add(commands: Commands) -> None:
    """Add the subcommand."""
    commands.add(
        "features",
        _run,
        commands.netns,
        commands.json,
        help="print what this kernel supports",
        description="Print what this kernel supports of connection tracking beyond Linux 4.19, "
        "with yes or no for each feature. It is found out by requests that change nothing. With "
        "--json, print one object with true or false for each.",
    )


def _run(options: argparse.Namespace) -> None:
    run_requests(partial(_features, options))


async def _features(options: argparse.Namespace) -> None:
    import json

    import attrs

    from ...connecting import connect
    from ...model.features import Features
    from ..described import write_described
    from ..field_descriptions import field_descriptions
    from ..output import write_line

    async with connect(netns=options.netns) as conn:
        features: dict[str, bool] = attrs.asdict(await conn.features())
    if options.json:
        write_line(json.dumps(features))
        return
    texts = field_descriptions(Features)
    write_described(
        [(name, "yes" if has else "no", texts.get(name, "")) for name, has in features.items()]
    )
