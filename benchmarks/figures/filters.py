"""What it saves that the kernel filters: dumps and events of which one in a hundred is wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from ipaddress import IPv4Network
from socket import SO_RCVBUF, SOL_SOCKET
from typing import Final

import attrs

from conntrack_aio import Match

from .. import tables
from ..contenders import command, floor, matching
from ..isolation import room
from ..options import Options
from ..report import Figure, Line
from ..rivals import Rivals
from ..timing import Contender, check, each_costs, each_occupies, in_turns, ratios
from .events import TRUESIZE
from .lines import no_room

_ONE_IN: Final = 100
_NETWORKS: Final = 3_000
_MOST_INSIDE: Final = 1_000
"""Networks that clients are in."""
_LENGTHS: Final = (20, 22, 24, 25, 26, 28, 29, 30)

_PORT: Final = tables.RARE_PORT
_RARE: Final = Match(family="ipv4", proto="tcp", orig_dport=_PORT)
_IN_PART: Final = Match(family="ipv4", proto="tcp", orig_dport=[_PORT, _PORT + 1])
"""In dumps the kernel compares one port, but not two."""
_OPTIONS: Final = ("-f", "ipv4", "-p", "tcp", "--dport", str(_PORT))
"""The same for conntrack(8), which of these has the kernel compare the family of a dump alone."""

_FLOOR_SOME: Final = "floor, of those that match"
_FLOOR_ALL: Final = "floor, of all"


def selected(options: Options, rivals: Rivals) -> Figure:
    """Dumps of a large table, beside the floor of what the kernel sends for each."""
    size = options.large
    title = f"dump 1 in {_ONE_IN} of {size:,} flows; what a flow of the table costs"
    if room() < size:
        return Figure("selected", title, notes=[no_room(size)])
    tables.fill(tables.shapes_one_in(_ONE_IN), 0, size, options.per_client)
    least = floor.dump(size, name=_FLOOR_ALL)
    some = [
        _floor_of_some(size),
        matching.dump("checked by the kernel", _RARE, size),
        matching.count("checked by the kernel, and counted", _RARE, size),
    ]
    rest = [
        matching.dump("the port checked here", _IN_PART, size),
        matching.dump_and_check("all checked here", _RARE, size),
    ]
    if command.NAME in rivals:
        rest.append(command.dump_matching(_OPTIONS, size))
    check([*some, *rest], size // _ONE_IN)
    check([least], size)
    return Figure("selected", title, _dumped([*some, least, *rest], len(some), options.large_runs))


def _floor_of_some(size: int) -> Contender:
    selects = matching.dump_filter(_RARE)
    contender = floor.dump(size, selects.selections[0], _FLOOR_SOME)
    # A kernel that can't compare ports sends more.
    return contender if selects.exact else attrs.evolve(contender, check=None)


def _dumped(contenders: Sequence[Contender], some: int, runs: int) -> list[Line]:
    """Of the first ``some``, the floor is their own; of the others that of the whole table."""
    timings = in_turns(contenders, runs)
    lines: list[Line] = []
    for number, each in enumerate(contenders):
        least = _FLOOR_SOME if number < some else _FLOOR_ALL
        lines.append(
            Line(
                each.name,
                each_costs(timings[each.name]),
                "µs",
                None if each.name == least else ratios(timings, each.name, least),
                each_occupies(timings[each.name]),
                remark=each.remark,
            )
        )
    return lines


def filtered(options: Options, rivals: Rivals) -> Figure:
    """New flows, and who listens to some of them: what either takes."""
    count = options.events
    title = f"hear of 1 in {_ONE_IN} of {count:,} new flows; processor time for each of all"
    buffer = count * TRUESIZE
    with closing(floor.open_socket(buffer)) as sock:
        if sock.getsockopt(SOL_SOCKET, SO_RCVBUF) < buffer:
            note = "Left out: a receive buffer that holds so many takes root."
            return Figure("filtered", title, notes=[note])
    nets = networks(count // options.per_client)
    inside = flows_in(nets, count, options.per_client)
    some = matching.Audience(_RARE, count // _ONE_IN, buffer)
    many = matching.Audience(Match(orig_src=nets), inside, buffer)
    make = partial(_make_some, tables.shapes_one_in(_ONE_IN), options.per_client)
    cause = partial(make, 0, count)
    by_network = matching.hear(f"listen, {_NETWORKS:,} networks, the same", many, cause, count)
    first, *others = by_port = _by_port(make, count, rivals, some)
    check(by_port, some.expected)
    check([by_network], many.expected)
    listeners = [first, by_network, *others]
    makers = _makers(options, some, many)
    timings = in_turns([*listeners, *makers], options.runs)
    lines = [
        Line(each.name, each_occupies(timings[each.name]), "µs", remark=each.remark)
        for each in (*listeners, *makers)
    ]
    notes = [_program_of("the port", some), _program_of(f"{_NETWORKS:,} networks", many)]
    return Figure("filtered", title, lines, notes)


def _by_port(
    make: Callable[[int, int], None], count: int, rivals: Rivals, some: matching.Audience
) -> list[Contender]:
    cause = partial(make, 0, count)
    all_ = attrs.evolve(some, filtered=False)
    listeners = [
        matching.hear("listen, checked by the kernel", some, cause, count),
        matching.hear("listen, checked here", all_, cause, count),
    ]
    if command.NAME in rivals:
        listeners.append(command.listen(_OPTIONS, make, count, some.expected))
    return listeners


def _make_some(shapes: Sequence[tables.Shape], per_client: int, first: int, last: int) -> None:
    if not first:
        floor.flush()
    tables.fill(shapes, first, last, per_client)


def _makers(options: Options, some: matching.Audience, many: matching.Audience) -> list[Contender]:
    shapes = tables.shapes_one_in(_ONE_IN)
    make: Callable[[], None] = partial(tables.fill, shapes, 0, options.events, options.per_client)
    all_ = attrs.evolve(some, filtered=False)
    audiences = {
        "nobody listens": None,
        "checked by the kernel": some,
        f"{_NETWORKS:,} networks, the same": many,
        "all are heard of": all_,
    }
    return [
        matching.make_beside(f"make a flow, {name}", audience, make, options.events)
        for name, audience in audiences.items()
    ]


def _program_of(what: str, audience: matching.Audience) -> str:
    """In words: a kernel that has no room for a long one gets another, which takes too much."""
    found = audience.program()
    if found is None:
        return f"For {what} the kernel has no room for a program: it is checked here."
    rest = "" if found.exact else ", which takes too many: they are checked again here"
    return f"For {what} the kernel runs a program of {len(found.program):,} instructions{rest}."


def networks(clients: int) -> list[IPv4Network]:
    """Of mixed lengths; about one client in a hundred is in one of them."""
    size = 1
    while clients > _MOST_INSIDE * _ONE_IN * size:
        size *= 2
    first = -(-int(tables.FIRST_CLIENT) // size) * size  # the first whose clients all exist
    length = 33 - size.bit_length()
    starts = range(first, int(tables.FIRST_CLIENT) + clients, _ONE_IN * size)
    inside = [IPv4Network((start, length)) for start in starts]
    outside = [
        IPv4Network(((172 << 24) + (n << 12), _LENGTHS[n % len(_LENGTHS)]))
        for n in range(_NETWORKS - len(inside))
    ]
    return [*inside, *outside]


def flows_in(nets: Sequence[IPv4Network], count: int, per_client: int) -> int:
    """How many of so many flows are of a client in one of them."""
    total = 0
    for network in nets:
        first = (int(network[0]) - int(tables.FIRST_CLIENT)) * per_client
        last = first + network.num_addresses * per_client
        total += max(0, min(count, last) - first)
    return total
