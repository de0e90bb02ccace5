"""Show events until an interrupt."""

from __future__ import annotations

import select
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Final, TypeVar

from ...connecting import connect
from ...errors import DecodeError, EventsLost, PermissionDenied
from ...model.enums import EventType
from ...model.events import FlowEvent
from ...model.expectations import ExpectEvent
from ...model.flow import Flow
from ...streams.events import EventStream
from ..output import Interrupted, discard_output, resume_writes
from ..running import run_async
from .actions import Action
from .commands import Command
from .entry_writer import EntryWriter
from .matching import beyond_kernel_match, kernel_match, selector
from .messages import OK, CommandFailure, report, warn
from .output_options import OutputOptions

_TYPES: Final = {
    "NEW": EventType.NEW,
    "UPDATES": EventType.UPDATE,
    "DESTROY": EventType.DESTROY,
}

_NO_CONDITIONS: Final = frozenset({"output", "event-mask", "buffer-size"})
"""The options that do not select events."""

_LOSS: Final = (
    "WARNING: We have hit ENOBUFS! We are losing events.\n"
    "This message means that the current netlink socket buffer size is too small.\n"
    "Please, check --buffer-size in conntrack(8) manpage."
)


def show_events(command: Command) -> int:
    """Print events until SIGINT or SIGTERM, and return the exit status."""
    on_expectations = command.action is Action.EXPECT_EVENT
    writer = EntryWriter(command, root="expect" if on_expectations else "conntrack", many=True)
    follow = _follow_expectations if on_expectations else _follow_flows
    with _interrupted_by_signals():
        try:
            run_async(partial(follow, command, writer))
        except PermissionDenied as error:
            warn(f"mnl_socket_bind: {error.strerror}")
            raise CommandFailure("Can't open netlink socket") from error
        except KeyboardInterrupt:
            resume_writes()
            writer.close()
        except Interrupted:  # during a write, which blocks if the reader does not read
            resume_writes()
            if _output_has_room():
                writer.close()
            else:
                discard_output()
    kind = "expectation" if on_expectations else "flow"
    report(f"{writer.count} {kind} events have been shown.")
    return OK


def _output_has_room() -> bool:
    """Return whether a short write to standard output does not block."""
    try:
        return bool(select.select([], [sys.stdout], [], 0)[1])
    except (OSError, ValueError):
        return False


@contextmanager
def _interrupted_by_signals() -> Generator[None]:
    """Make SIGINT and SIGTERM interrupt the body, even if SIGINT was ignored.

    A background job of a shell ignores SIGINT. The program handles it all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_terminate(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    before = [
        (number, signal.signal(number, handler))
        for number, handler in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGTERM, on_terminate),
        )
    ]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


async def _follow_flows(command: Command, writer: EntryWriter) -> None:
    types = [] if "ALL" in command.events else [_TYPES[word] for word in sorted(command.events)]
    filtered = bool(command.given - _NO_CONDITIONS)
    matches = selector(beyond_kernel_match(command) if filtered else command)
    if "event-mask" in command.given and not command.events:
        # All of its words were ignored. As in the program, no type remains.
        types, matches = [EventType.NEW], _none

    def write(events: list[FlowEvent]) -> None:
        writer.flow_events([event for event in events if matches(event.flow)])

    async with (
        connect() as conn,
        conn.events(
            *types,
            match=kernel_match(command) if filtered else None,
            receive_buffer=command.buffer_size or None,
            receive_time=OutputOptions.TIMESTAMP in command.output,
        ) as stream,
    ):
        if command.buffer_size is not None:
            size = stream.receive_buffer
            warn(f"NOTICE: Netlink socket buffer size has been set to {size} bytes.")
        await _follow(stream, write)


def _none(flow: Flow) -> bool:
    return False


async def _follow_expectations(command: Command, writer: EntryWriter) -> None:
    receive_time = OutputOptions.TIMESTAMP in command.output
    async with connect() as conn, conn.expectations.events(receive_time=receive_time) as stream:
        await _follow(stream, writer.expectation_events)


E = TypeVar("E", FlowEvent, ExpectEvent)


async def _follow(stream: EventStream[E], write: Callable[[list[E]], None]) -> None:
    while True:
        try:
            async for events in stream.batches():
                write(events)
        except EventsLost:
            warn(_LOSS)
        except DecodeError as error:
            warn(f"WARNING: an event could not be decoded: {error}")
