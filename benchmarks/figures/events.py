"""Measure reading events that are queued in the receive buffer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from socket import SO_RCVBUF, SOL_SOCKET
from typing import Final

from .. import tables
from ..contenders import floor, library, ours
from ..options import Options
from ..report import Figure
from ..rivals import Rivals
from .lines import measure

TRUESIZE: Final = 1280
"""The bytes that one event takes in a receive buffer on x86-64.

The kernel doubles the size that is requested for a buffer.
"""

NEEDS_ROOT: Final = "only root can have a receive buffer that holds all events."
"""Why a figure is left out."""


def can_buffer(receive_buffer: int) -> bool:
    """Return whether a socket of this process can have a receive buffer of this size."""
    with closing(floor.open_socket(receive_buffer)) as sock:
        return sock.getsockopt(SOL_SOCKET, SO_RCVBUF) >= receive_buffer


def events(options: Options, rivals: Rivals) -> Figure:
    """Measure the figure ``events``. The receive buffer holds the events of all new flows."""
    count = options.events
    title = f"drain {count:,} queued events, senders checked"
    buffer = count * TRUESIZE
    if not can_buffer(buffer):
        return Figure("events", title, notes=[f"Left out: {NEEDS_ROOT}"])
    cause = event_source(options)
    contenders = [
        floor.events(cause, buffer),
        ours.events(ours.EVENT_BY_EVENT, cause, count, buffer),
        ours.events(ours.EVENTS_IN_BATCHES, cause, count, buffer),
    ]
    if rivals.program is not None:
        contenders.append(library.events(rivals.program, cause, count, buffer))
    limits = {contender.name: "1.3 x C" for contender in contenders[1:3]}
    return Figure("events", title, measure(contenders, options.runs, count, limits))


def event_source(options: Options) -> Callable[[], None]:
    """Return a function that creates flows in an empty table, and so causes their events."""
    return partial(_create_flows, tables.tcp_shapes(), options)


def _create_flows(shapes: list[tables.Shape], options: Options) -> None:
    floor.flush()
    tables.fill(shapes, 0, options.events, options.per_client)
