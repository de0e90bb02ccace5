"""Reading events that wait in the socket."""

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
from .lines import compared

TRUESIZE: Final = 1280
"""Bytes that one event takes of the receive buffer (x86-64), which is of twice the size asked."""


def events(options: Options, rivals: Rivals) -> Figure:
    """As many as are queued while new flows are made, the receive buffer large enough for all."""
    count = options.events
    title = f"drain {count:,} queued events, senders checked"
    buffer = count * TRUESIZE
    with closing(floor.open_socket(buffer)) as sock:
        if sock.getsockopt(SOL_SOCKET, SO_RCVBUF) < buffer:
            note = "Left out: a receive buffer that holds so many takes root."
            return Figure("events", title, notes=[note])
    cause = cause_of(options)
    contenders = [
        floor.events(cause, buffer),
        ours.events(ours.EVENT_BY_EVENT, cause, count, buffer),
        ours.events(ours.EVENTS_IN_BATCHES, cause, count, buffer),
    ]
    if rivals.program is not None:
        contenders.append(library.events(rivals.program, cause, count, buffer))
    wanted = {contender.name: "3.3 x" for contender in contenders[1:3]}
    return Figure("events", title, compared(contenders, options.runs, count, wanted))


def cause_of(options: Options) -> Callable[[], None]:
    """What queues them."""
    return partial(_cause, tables.tcp_shapes(), options)


def _cause(shapes: list[tables.Shape], options: Options) -> None:
    floor.flush()
    tables.fill(shapes, 0, options.events, options.per_client)
