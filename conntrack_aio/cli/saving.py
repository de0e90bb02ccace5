"""Save the kernel's table as the lines of a file: the work of the subcommand ``save``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import copy

from ..codec.json_lines import json_lines
from ..connection import Connection
from ..errors import NotFound, NotSupported
from ..filters.match import Match
from ..model.expectations import Expectation
from ..model.flow import Flow
from ..model.lazy_fields import is_absent
from ..model.tuples import Tuple
from .saved_tables import SavedExpectation, expectation_line, first_line, last_line


async def save_table(
    conn: Connection, match: Match | None, write: Callable[[str], object]
) -> tuple[int, int]:
    """Write the lines of the table, and return the numbers of flows and expectations.

    :param conn: the connection to the namespace.
    :param match: which flows to save, instead of all.
    :param write: writes lines.
    """
    write(first_line(time.time_ns()))
    count = 0
    masters: list[Flow] = []
    async for flows in conn.dump(match).batches():
        # The lines first: they are written from the kernel's messages if no field was read.
        write(json_lines(flows))
        masters += [flow for flow in flows if not is_absent(flow, "helper")]
        count += len(flows)
    expectations = await _expectations_of(conn, masters)
    for each in expectations:
        write(expectation_line(each))
    write(last_line(count, len(expectations)))
    return count, len(expectations)


async def _expectations_of(conn: Connection, masters: Sequence[Flow]) -> list[SavedExpectation]:
    """Return the expectations of these flows.

    The kernel does not report the zone of an expectation. So the expectations of each master that
    has any are dumped by themselves.
    """
    if not masters:
        return []
    expecting: set[Tuple] = set()
    try:
        async for found in conn.expectations.dump():
            expecting.add(found.master)
    except NotSupported:
        return []  # this kernel has none
    saved: list[SavedExpectation] = []
    for master in masters:
        if master.orig.without_zone not in expecting:
            continue
        try:
            expectations = await conn.expectations.list(master=master)
        except NotFound:
            continue  # the master has ended, and its expectations with it
        saved += [_saved(master, expectation) for expectation in expectations]
    return saved


def _saved(master: Flow, expectation: Expectation) -> SavedExpectation:
    """Return an expectation with the tuple and the zone by which its master is found.

    If only the replies of the master are in a zone, the expectation is in it, too.
    """
    zone = master.orig.zone if master.zone is None else master.zone
    found_by: Tuple = master.orig
    if zone is None and master.reply.zone is not None:
        zone, found_by = master.reply.zone, master.reply
    saved = copy(expectation)
    saved.master = found_by.without_zone
    return SavedExpectation(saved, zone)
