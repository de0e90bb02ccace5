"""Write what conntrack(8) adds to the line of an event: its type, time and program."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from ...model.enums import EventType
from ...model.events import Event
from ...uapi.netlink import NETLINK

_PROC: Final = "/proc"
_COMMANDS: Final = {EventType.NEW: "-A", EventType.UPDATE: "-U", EventType.DESTROY: "-D"}


def type_text(event: Event) -> str:
    """Return the type of an event, in a column of its own, with a space after it."""
    return f"{f'[{event.type.name}]':>9} "


def command_of(event: Event) -> str:
    """Return the command that repeats an event."""
    return _COMMANDS[event.type]


def receive_seconds(event: Event | None) -> tuple[int, int]:
    """Return the seconds and microseconds since 1970 at which an event was received.

    It is the time of this call if there is no event, or if it has no time of its own.
    """
    received = None if event is None else event.receive_timestamp
    seconds, nanoseconds = divmod(time.time_ns() if received is None else received, 1_000_000_000)
    return seconds, nanoseconds // 1000


def time_text(event: Event | None) -> str:
    """Return the time of :func:`receive_seconds` as it precedes a line, with a tabulator."""
    seconds, microseconds = receive_seconds(event)
    return f"[{seconds}.{microseconds:06}]\t"


def program_text(event: Event) -> str:
    """Return the program that caused an event, after a space; empty if none did.

    The name is missing if the program has closed its socket.
    """
    if not event.port_id:
        return ""
    name = _program_name(event.port_id)
    return f" [USERSPACE] portid={event.port_id:d}" + ("" if name is None else f" progname={name}")


def _program_name(port_id: int) -> str | None:
    """Return the name of the program that has a netlink socket with a port id."""
    inode = _socket_inode(port_id)
    if inode is None:
        return None
    target = f"socket:[{inode}]"
    for process in _processes(port_id):
        directory = f"{_PROC}/{process}/fd"
        with suppress(OSError):  # the process ends, or belongs to another user
            for descriptor in os.listdir(directory):
                with suppress(OSError):
                    if os.readlink(f"{directory}/{descriptor}") == target:
                        return _comm(process)
    return None


def _socket_inode(port_id: int) -> str | None:
    """Return the inode of the netfilter socket with a port id."""
    try:
        with open(f"{_PROC}/net/netlink", encoding="ascii") as table:
            rows = [line.split() for line in table][1:]
    except OSError:
        return None
    wanted = [str(int(NETLINK.NETFILTER)), str(port_id)]
    return next((row[-1] for row in rows if row[1:3] == wanted), None)


def _processes(port_id: int) -> Iterator[str]:
    """Yield the ids of processes: first the one that the kernel usually names the port after."""
    if os.path.isdir(f"{_PROC}/{port_id}"):
        yield str(port_id)
    yield from filter(str.isdecimal, os.listdir(_PROC))


def _comm(process: str) -> str:
    with open(f"{_PROC}/{process}/comm", encoding="utf-8", errors="surrogateescape") as file:
        return file.read().removesuffix("\n")
