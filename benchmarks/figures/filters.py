"""Measure what filters in the kernel save: one in a hundred flows or events matches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Network
from typing import Final

import attrs

from conntrack_aio import Match

from .. import tables
from ..contenders import command, floor, matching
from ..isolation import room
from ..options import Options
from ..report import Figure, Line
from ..rivals import Rivals
from ..timing import Contender, check, cpu_time_per_item, in_turns, ratios, wall_time_per_item
from .events import NEEDS_ROOT, TRUESIZE, can_buffer
from .lines import table_too_large

_ONE_IN: Final = 100
_NETWORKS: Final = 3_000
_MAX_NETWORKS_WITH_CLIENTS: Final = 1_000
_LENGTHS: Final = (20, 22, 24, 25, 26, 28, 29, 30)
"""The prefix lengths of the networks without clients."""

_PORT: Final = tables.RARE_PORT
_RARE: Final = Match(family="ipv4", proto="tcp", orig_dport=_PORT)
_RARE_OF_TWO_PORTS: Final = Match(family="ipv4", proto="tcp", orig_dport=[_PORT, _PORT + 1])
"""Matches the same flows. In a dump the kernel can compare one port, but not two."""
_OPTIONS: Final = ("-f", "ipv4", "-p", "tcp", "--dport", str(_PORT))
"""The same match for conntrack(8). In a dump it lets the kernel compare only the family."""

_FLOOR_OF_MATCHING: Final = "floor, only flows that match"
_FLOOR_OF_ALL: Final = "floor, all flows"


def selected(options: Options, rivals: Rivals) -> Figure:
    """Measure the figure ``selected``: dumps of a large table with a match.

    Each contender is compared with the floor of what the kernel sends to it: the flows that match,
    or all flows.
    """
    size = options.large
    title = f"dump 1 in {_ONE_IN} of {size:,} flows; time per flow of the table"
    if room() < size:
        return Figure("selected", title, notes=[table_too_large(size)])
    tables.fill(tables.shapes_one_in(_ONE_IN), 0, size, options.per_client)
    in_kernel = [
        _floor_of_matching(size),
        matching.dump("checked by the kernel", _RARE, size),
        matching.count("checked by the kernel, and counted", _RARE, size),
    ]
    floor_of_all = floor.dump(size, name=_FLOOR_OF_ALL)
    in_python = [
        matching.dump("port checked in Python", _RARE_OF_TWO_PORTS, size),
        matching.dump_and_check("all checked in Python", _RARE, size),
    ]
    if command.NAME in rivals:
        in_python.append(command.dump_matching(_OPTIONS, size))
    check([*in_kernel, *in_python], size // _ONE_IN)
    check([floor_of_all], size)
    floors = dict.fromkeys([each.name for each in in_kernel], _FLOOR_OF_MATCHING)
    lines = _time_dumps([*in_kernel, floor_of_all, *in_python], floors, options.large_runs)
    return Figure("selected", title, lines)


def _floor_of_matching(size: int) -> Contender:
    dump_filter = matching.dump_filter(_RARE)
    contender = floor.dump(size, dump_filter.selections[0], _FLOOR_OF_MATCHING)
    # A kernel that cannot compare ports sends more flows than match.
    return contender if dump_filter.exact else attrs.evolve(contender, check=None)


def _time_dumps(contenders: Sequence[Contender], floors: dict[str, str], runs: int) -> list[Line]:
    """Time the contenders in turns.

    :param floors: by name of the contender, the name of its floor if that is not the floor of all.
    """
    timings = in_turns(contenders, runs)
    lines: list[Line] = []
    for each in contenders:
        base = floors.get(each.name, _FLOOR_OF_ALL)
        lines.append(
            Line(
                each.name,
                wall_time_per_item(timings[each.name]),
                "µs",
                ratio=None if each.name == base else ratios(timings, each.name, base),
                cpu=cpu_time_per_item(timings[each.name]),
                remark=each.remark,
            )
        )
    return lines


def filtered(options: Options, rivals: Rivals) -> Figure:
    """Measure the figure ``filtered``: the cost of filtered events.

    It is the processor time of the program that reads the events, and that of the program that
    creates the flows.
    """
    count = options.events
    title = (
        f"receive the events of 1 in {_ONE_IN} of {count:,} new flows; "
        "processor time per flow created"
    )
    buffer = count * TRUESIZE
    if not can_buffer(buffer):
        return Figure("filtered", title, notes=[f"Left out: {NEEDS_ROOT}"])
    nets = networks(count // options.per_client)
    inside = flows_in(nets, count, options.per_client)
    of_port = matching.Listener(_RARE, count // _ONE_IN, buffer)
    of_networks = matching.Listener(Match(orig_src=nets), inside, buffer)
    create = partial(_create_flows, tables.shapes_one_in(_ONE_IN), options.per_client)
    cause = partial(create, 0, count)
    network_reader = matching.read_events(
        f"listen, {_NETWORKS:,} networks, checked by the kernel", of_networks, cause, count
    )
    first, *others = port_readers = _port_readers(create, count, rivals, of_port)
    check(port_readers, of_port.expected)
    check([network_reader], of_networks.expected)
    contenders = [first, network_reader, *others, *_creators(options, of_port, of_networks)]
    timings = in_turns(contenders, options.runs)
    lines = [
        Line(each.name, cpu_time_per_item(timings[each.name]), "µs", remark=each.remark)
        for each in contenders
    ]
    notes = [
        _describe_program("the port", of_port),
        _describe_program(f"{_NETWORKS:,} networks", of_networks),
    ]
    return Figure("filtered", title, lines, notes)


def _port_readers(
    create: Callable[[int, int], None], count: int, rivals: Rivals, of_port: matching.Listener
) -> list[Contender]:
    """Return the contenders that read the events of flows to the port."""
    cause = partial(create, 0, count)
    unfiltered = attrs.evolve(of_port, filtered=False)
    readers = [
        matching.read_events("listen, checked by the kernel", of_port, cause, count),
        matching.read_events("listen, checked in Python", unfiltered, cause, count),
    ]
    if command.NAME in rivals:
        readers.append(command.receive_events(_OPTIONS, create, count, of_port.expected))
    return readers


def _create_flows(shapes: Sequence[tables.Shape], per_client: int, first: int, last: int) -> None:
    """Create the flows from number ``first`` up to ``last - 1``, the first in an empty table."""
    if not first:
        floor.flush()
    tables.fill(shapes, first, last, per_client)


def _creators(
    options: Options, of_port: matching.Listener, of_networks: matching.Listener
) -> list[Contender]:
    """Return the contenders that create flows, each with another listener or with none."""
    shapes = tables.shapes_one_in(_ONE_IN)
    create: Callable[[], None] = partial(tables.fill, shapes, 0, options.events, options.per_client)
    listeners = {
        "no listener": None,
        "checked by the kernel": of_port,
        f"{_NETWORKS:,} networks, checked by the kernel": of_networks,
        "all events delivered": attrs.evolve(of_port, filtered=False),
    }
    return [
        matching.create_while_listening(f"create a flow, {name}", listener, create, options.events)
        for name, listener in listeners.items()
    ]


def _describe_program(condition: str, listener: matching.Listener) -> str:
    """Describe the program that the kernel runs on each event.

    A kernel that limits programs to fewer instructions gets a program that passes more events.
    """
    found = listener.kernel_filter()
    if found is None:
        return f"For {condition} the kernel accepts no program: the library checks every event."
    rest = "" if found.exact else ". It passes other events too, and the library checks them again"
    return (
        f"For {condition} the kernel runs a program of {len(found.program):,} instructions{rest}."
    )


def networks(clients: int) -> list[IPv4Network]:
    """Return 3,000 networks that together contain about one client in a hundred.

    :param clients: how many clients there are.
    """
    size = 1
    while clients > _MAX_NETWORKS_WITH_CLIENTS * _ONE_IN * size:
        size *= 2
    # Begin at a multiple of the size, so that every address of a network is that of a client.
    first = -(-int(tables.FIRST_CLIENT) // size) * size
    length = 33 - size.bit_length()
    starts = range(first, int(tables.FIRST_CLIENT) + clients, _ONE_IN * size)
    inside = [IPv4Network((start, length)) for start in starts]
    outside = [
        IPv4Network(((172 << 24) + (n << 12), _LENGTHS[n % len(_LENGTHS)]))
        for n in range(_NETWORKS - len(inside))
    ]
    return [*inside, *outside]


def flows_in(nets: Sequence[IPv4Network], count: int, per_client: int) -> int:
    """Return how many of the first ``count`` flows have a client in one of the networks."""
    total = 0
    for network in nets:
        first = (int(network[0]) - int(tables.FIRST_CLIENT)) * per_client
        last = first + network.num_addresses * per_client
        total += max(0, min(count, last) - first)
    return total
