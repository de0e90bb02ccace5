"""What it saves that the kernel filters: dumps and events of which one in a hundred is wanted."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from ipaddress import IPv4Network
from socket import SO_RCVBUF, SOL_SOCKET
from typing import Final

from conntrack_aio import Match

from .. import tables
from ..contenders import command, floor, matching
from ..isolation import room
from ..options import Options
from ..report import Figure, Line
from ..rivals import Rivals
from ..timing import check, each_costs, each_occupies, in_turns
from .events import TRUESIZE
from .lines import no_room

_ONE_IN: Final = 100
_NETWORKS: Final = 3_000
_LENGTHS: Final = (20, 22, 24, 25, 26, 28, 29, 30)

_PORT: Final = tables.RARE_PORT
_RARE: Final = Match(family="ipv4", proto="tcp", orig_dport=_PORT)
_IN_PART: Final = Match(family="ipv4", proto="tcp", orig_dport=[_PORT, _PORT + 1])
"""In dumps the kernel compares one port, but not two."""
_OPTIONS: Final = ("-f", "ipv4", "-p", "tcp", "--dport", str(_PORT))
"""The same for conntrack(8), of which the kernel compares nothing but the family of a dump."""


def selected(options: Options, rivals: Rivals) -> Figure:
    """Dumps of a large table."""
    size = options.large
    title = f"dump 1 in {_ONE_IN} of {size:,} flows; what a flow of the table costs"
    if room() < size:
        return Figure("selected", title, notes=[no_room(size)])
    tables.fill(tables.shapes_one_in(_ONE_IN), 0, size, options.per_client)
    contenders = [
        matching.dump("checked by the kernel", _RARE, size),
        matching.count("checked by the kernel, and counted", _RARE, size),
        matching.dump("the port checked here", _IN_PART, size),
        matching.dump_and_check("all checked here", _RARE, size),
    ]
    if command.NAME in rivals:
        contenders.append(command.dump_matching(_OPTIONS, size))
    check(contenders, size // _ONE_IN)
    timings = in_turns(contenders, options.large_runs)
    lines = [
        Line(
            each.name,
            each_costs(timings[each.name]),
            "µs",
            cpu=each_occupies(timings[each.name]),
            remark=each.remark,
        )
        for each in contenders
    ]
    return Figure("selected", title, lines)


def filtered(options: Options, rivals: Rivals) -> Figure:
    """New flows, and who listens to some of them: what either takes."""
    count = options.events
    title = f"hear of 1 in {_ONE_IN} of {count:,} new flows; processor time for each of all"
    buffer = count * TRUESIZE
    with closing(floor.open_socket(buffer)) as sock:
        if sock.getsockopt(SOL_SOCKET, SO_RCVBUF) < buffer:
            note = "Left out: a receive buffer that holds so many takes root."
            return Figure("filtered", title, notes=[note])
    shapes = tables.shapes_one_in(_ONE_IN)
    make = partial(tables.fill, shapes, 0, count, options.per_client)

    def make_some(first: int, last: int) -> None:
        if not first:
            floor.flush()
        tables.fill(shapes, first, last, options.per_client)

    def cause() -> None:
        make_some(0, count)

    networks = Match(orig_src=_networks(count // options.per_client))
    some = matching.listening(_RARE, buffer)
    many = matching.listening(networks, buffer)
    all_ = matching.listening(None, buffer)
    listeners = [
        matching.hear("listen, checked by the kernel", some, _RARE, cause, count),
        matching.hear(f"listen, {_NETWORKS:,} networks, the same", many, networks, cause, count),
        matching.hear("listen, checked here", all_, _RARE, cause, count),
    ]
    if command.NAME in rivals:
        listeners.append(command.listen(_OPTIONS, make_some, count))
    check(listeners, count // _ONE_IN)
    makers = [
        matching.make_beside("make a flow, nobody listens", None, make, count),
        matching.make_beside("make a flow, checked by the kernel", some, make, count),
        matching.make_beside(f"make a flow, {_NETWORKS:,} networks, the same", many, make, count),
        matching.make_beside("make a flow, all are heard of", all_, make, count),
    ]
    timings = in_turns([*listeners, *makers], options.runs)
    lines = [
        Line(each.name, each_occupies(timings[each.name]), "µs", remark=each.remark)
        for each in (*listeners, *makers)
    ]
    return Figure("filtered", title, lines)


def _networks(clients: int) -> list[IPv4Network]:
    """Of mixed lengths; one client in a hundred is in one of them."""
    inside = [IPv4Network(tables.FIRST_CLIENT + n) for n in range(0, clients, _ONE_IN)]
    outside = [
        IPv4Network(((172 << 24) + (n << 12), _LENGTHS[n % len(_LENGTHS)]))
        for n in range(_NETWORKS - len(inside))
    ]
    return [*inside, *outside]
