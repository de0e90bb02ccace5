"""Report why flows, events or counters are missing, in the same words for every subcommand.

- The reports go to standard error.
- The text is that of :meth:`ConntrackSysctls.blind_spots`, except for an empty table: the command
  finds out whether the kernel tracks connections here.
- A setting that cannot be read is not reported: the output of the command is complete without it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from ..connection import Connection
from ..errors import ConntrackError
from ..model.events import FlowEvent
from ..model.expectations import ExpectEvent
from ..model.settings import TRACKING_RULES, BlindSpot
from ..streams.events import EventStream
from .output import report

_NO_ENTRIES: Final = "count"
"""The setting of the blind spot that a namespace without entries has."""

_EMPTY_TABLE: Final = {
    False: f"no flow is tracked here: no firewall rule needs connection tracking; {TRACKING_RULES}",
    True: "the table is empty: connections are tracked here, but there are none",
    None: "the table is empty: there are no connections, or no iptables rule here makes the "
    "kernel track them",
}
"""The report for an empty table, by the result of :meth:`Sysctls.tracking`."""


async def report_for_list(conn: Connection, settings: Collection[str] | None) -> None:
    """Report an empty table, and what the settings of the namespace hide.

    :param conn: the connection that listed the table.
    :param settings: the settings to report about, as fields of :class:`ConntrackSysctls`, instead
        of all.
    """
    for spot in await _blind_spots(conn):
        if spot.setting == _NO_ENTRIES:
            await _report_empty_table(conn)
        elif settings is None or spot.setting in settings:
            report(spot)


async def report_settings(conn: Connection, settings: Collection[str]) -> None:
    """Report which of some settings hide something in the namespace.

    :param conn: the connection that reads the settings.
    :param settings: the settings, as fields of :class:`ConntrackSysctls`.
    """
    for spot in await _blind_spots(conn):
        if spot.setting in settings:
            report(spot)


async def report_for_count(conn: Connection) -> None:
    """Report that the table is empty, unless connections are known to be tracked.

    Where connections are tracked, the printed 0 says everything.
    """
    for spot in await _blind_spots(conn):
        if spot.setting == _NO_ENTRIES:
            await _report_empty_table(conn, silent_if=(True,))


async def report_for_events(
    conn: Connection, stream: EventStream[FlowEvent] | EventStream[ExpectEvent]
) -> None:
    """Report which events the stream will not receive.

    An empty table is reported only if no connections are tracked. Otherwise events may follow.
    """
    if not stream.blind_spots:
        return
    spots = {spot.setting: spot for spot in await _blind_spots(conn)}
    for spot in stream.blind_spots:
        if spot.setting == _NO_ENTRIES:
            await _report_empty_table(conn, silent_if=(True, None))
        else:
            # Blind spots without a setting, as of --all-netns, keep the text of the stream.
            report(spots.get(spot.setting, spot))


async def _blind_spots(conn: Connection) -> list[BlindSpot]:
    try:
        return (await conn.sysctls.read()).blind_spots()
    except ConntrackError:
        return []


async def _report_empty_table(conn: Connection, *, silent_if: Collection[bool | None] = ()) -> None:
    """Report that the table is empty, with the reason as far as it is known.

    :param conn: the connection that found the table empty.
    :param silent_if: the results of :meth:`Sysctls.tracking` for which nothing is reported.
    """
    try:
        tracking = await conn.sysctls.tracking()
    except ConntrackError:
        return
    if tracking not in silent_if:
        report(_EMPTY_TABLE[tracking])
