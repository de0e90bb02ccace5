"""How an object becomes a line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from ..codec.json import to_dict
from ..errors import EventsLost
from ..model.events import FlowEvent
from ..model.flow import Flow

Render = Callable[[Flow | FlowEvent], str]


def as_text(item: Flow | FlowEvent) -> str:
    """A line for people."""
    return str(item)


def as_json(item: Flow | FlowEvent) -> str:
    """A line of JSON, with the field names of the classes."""
    return json.dumps(to_dict(item))


def lost_as_json(loss: EventsLost, *, receive_time: bool = False) -> str:
    """Return the line of JSON that stands where events were lost; their number may not be known.

    :param receive_time: add the time of now, as events have it then.
    """
    line: dict[str, object] = {"type": "lost", "lost": loss.lost}
    if receive_time:
        line["time_received"] = time.time_ns()
    return json.dumps(line)


def renderer(*, json: bool) -> Render:
    """The one that was asked for."""
    return as_json if json else as_text
