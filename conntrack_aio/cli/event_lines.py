"""Print the events of a stream as they arrive."""

from __future__ import annotations

import argparse
from typing import TypeVar

from ..errors import DecodeError, EventsLost
from ..model.events import FlowEvent
from ..model.expectations import ExpectEvent
from ..streams.events import EventStream
from .failures import report_failure
from .output import write_line, write_lines
from .render import lost_as_json, renderer

E = TypeVar("E", FlowEvent, ExpectEvent)


async def print_events(
    stream: EventStream[E], options: argparse.Namespace, *, numeric: bool = False
) -> None:
    """Print events, one per line, without end. Report lost events and continue.

    :param stream: the events.
    :param options: the options of the subcommand: ``json`` and ``receive_time``.
    :param numeric: whether to print labels by number, instead of by name.
    """
    render = renderer(json=options.json, numeric=numeric)
    while True:
        try:
            async for events in stream.batches():
                write_lines(render(events), flush=True)
        except (EventsLost, DecodeError) as error:
            if options.json and isinstance(error, EventsLost):
                line = lost_as_json(error, receive_time=options.receive_time)
                write_line(line, flush=True)
            report_failure(error)
