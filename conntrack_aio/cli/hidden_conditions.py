"""Report that a match has conditions on values that a setting of the kernel hides.

A flow without a value does not satisfy a condition on it, so such a match selects no flow, or, if
it negates the condition, every flow.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..connection import Connection
    from ..filters.fields import MatchField
    from ..filters.match import Match

_COUNTERS: Final = ("counters_orig", "counters_reply")
"""The attributes of a flow that it has only where the kernel counts packets and bytes."""


def settings_read_by(match: Match) -> set[str]:
    """Return the settings without which flows lack a value that a match has a condition on.

    :returns: fields of :class:`ConntrackSysctls`.
    """
    # The modules of filters take long to import; the match has imported them.
    from ..filters.match import compiled_of
    from ..filters.nodes import atoms

    fields = (condition.field for condition in atoms(compiled_of(match).node))
    return {"acct" for field in fields if _is_counter(field)}


async def report_hidden_conditions(conn: Connection, options: argparse.Namespace) -> None:
    """Report which settings hide values that the match has conditions on, unless ``--quiet``.

    :param conn: the connection that reads the settings.
    :param options: the options of the subcommand: ``match`` and ``quiet``.
    """
    if not options.quiet and (settings := settings_read_by(options.match)):
        from .hints import report_settings

        await report_settings(conn, settings)


def _is_counter(field: MatchField) -> bool:
    return bool(field.path) and field.path[0] in _COUNTERS
