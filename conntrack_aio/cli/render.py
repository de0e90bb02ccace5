"""Render flows, events and other objects as lines of text or JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable

from ..codec.json_lines import json_lines, text_lines
from ..errors import EventsLost
from .label_texts import LabelTexts

Render = Callable[[Iterable[object]], str]
"""A function that returns the lines for flows, events or other objects of the model, each with a
newline at its end."""


def lost_as_json(loss: EventsLost, *, receive_time: bool = False) -> str:
    """Return the line of JSON that takes the place of lost events.

    :param loss: the loss. Its number of events may be unknown.
    :param receive_time: add the current time as ``receive_timestamp``, in nanoseconds since 1970.
    """
    line: dict[str, object] = {"type": "lost", "lost": loss.lost}
    if receive_time:
        line["receive_timestamp"] = time.time_ns()
    return json.dumps(line)


def renderer(*, json: bool, numeric: bool = False) -> Render:
    """Return the function that renders lines of JSON or of text.

    :param json: whether the lines are JSON.
    :param numeric: whether text has labels by number, instead of by name.
    """
    if json:
        return json_lines
    if numeric:
        return text_lines
    labels = LabelTexts()
    return lambda objects: labels.in_lines(text_lines(objects))
