"""Select the entries that a command is about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from socket import AF_INET
from typing import TYPE_CHECKING, Final

from ...model.enums import Status
from ...model.flow import Flow
from ...model.protoinfo import DCCPInfo, SCTPInfo, TCPInfo
from ...model.tuples import Tuple
from .actions import Action
from .commands import Command, GivenNAT
from .options import COMPARED
from .protocols import BY_NUMBER, ICMP, ICMPV6
from .tuple_values import TupleValues
from .values import IPAddress

if TYPE_CHECKING:
    from ...filters.match import Match

FlowTest = Callable[[Flow], bool]
AddressAndMask = tuple[IPAddress, IPAddress]

NAMED_STATUS: Final = (
    *(Status.ASSURED, Status.SEEN_REPLY, Status.FIXED_TIMEOUT, Status.EXPECTED),
    *(Status.OFFLOAD, Status.HW_OFFLOAD),
)
"""The status bits that ``-u`` has words for."""


def selector(command: Command) -> FlowTest:
    """Return a function that tests whether a flow is one that the command is about.

    For ``-U`` only the options that identify entries count: the others are the changes.
    """
    return _all(list(_tests(command)))


def identifier(command: Command) -> FlowTest:
    """Return a function as :func:`selector` does, with the conditions that ``-U`` has."""
    return _all([*_tuple_tests(command), *_nat_and_label_tests(command)])


def _all(tests: list[FlowTest]) -> FlowTest:
    if len(tests) == 1:
        return tests[0]
    return lambda flow: all(test(flow) for test in tests)


def _tests(command: Command) -> Iterator[FlowTest]:
    yield from _tuple_tests(command)
    yield from _value_tests(command)
    yield from _nat_and_label_tests(command)


# Tuples


def _tuple_tests(command: Command) -> Iterator[FlowTest]:
    """Yield the tests for the family, the tuples, the networks and the id."""
    family = command.family
    if family:
        version = 4 if family == AF_INET else 6
        yield lambda flow: flow.orig.src.version == version
    orig = command.orig
    for name, address, mask in command.networks:
        orig = orig._replace(**{name: None})
        yield _network_test(name, int(address) & int(mask), int(mask))
    if any(value is not None for value in orig[:-1]):
        matches_orig = _tuple_test(orig)
        yield lambda flow: matches_orig(flow.orig)
    if any(value is not None for value in command.reply[:-1]):
        matches_reply = _tuple_test(command.reply)
        yield lambda flow: matches_reply(flow.reply)
    if (id := command.id) is not None:
        yield lambda flow: flow.id == id


def _network_test(name: str, network: int, mask: int) -> FlowTest:
    return lambda flow: int(getattr(flow.orig, name)) & mask == network


def _tuple_test(given: TupleValues) -> Callable[[Tuple], bool]:
    """Return a function that compares a tuple with the values that were given.

    The zone is compared elsewhere.
    """
    values = [
        (name, value)
        for name, value in given._asdict().items()
        if value is not None and name != "zone"
    ]
    return lambda tuple_: all(getattr(tuple_, name) == value for name, value in values)


# Other values


def _value_tests(command: Command) -> Iterator[FlowTest]:
    """Yield the tests for values that may change, and for zones."""
    if (mark := command.mark) is not None:
        # As in the program, an event without a mark, such as the end of a flow whose mark is 0,
        # has no mark to compare.
        yield lambda flow: flow.mark is not None and flow.mark & mark.mask == mark.value
    if command.status is not None:
        # As in the program, nothing matches bits of both kinds. UNSET has no bits.
        bits, cleared = command.status
        mask = cleared or bits or sum(NAMED_STATUS)
        yield lambda flow: (flow.status or 0) & mask == bits
    if (zone := command.zone) is not None:
        yield lambda flow: (flow.zone or 0) == zone
    if (orig_zone := command.orig.zone) is not None:
        yield lambda flow: (flow.orig.zone or 0) == orig_zone
    if (reply_zone := command.reply.zone) is not None:
        yield lambda flow: (flow.reply.zone or 0) == reply_zone
    if (timeout := command.timeout) is not None:
        yield lambda flow: flow.timeout == timeout
    if (secmark := command.secmark) is not None:
        # The kernel reports the security context, not the number. Without a context it is 0.
        yield lambda flow: not secmark and flow.secctx is None
    if command.state is not None:
        yield _state_test(command.state)


def _state_test(state: int) -> FlowTest:
    def matches(flow: Flow) -> bool:
        info = flow.protoinfo
        return isinstance(info, TCPInfo | SCTPInfo | DCCPInfo) and info.state == state

    return matches


def _nat_and_label_tests(command: Command) -> Iterator[FlowTest]:
    if (src_nat := command.src_nat) is not None:
        yield lambda flow: _is_translated(flow, src_nat, source=True)
    if (dst_nat := command.dst_nat) is not None:
        yield lambda flow: _is_translated(flow, dst_nat, source=False)
    if (any_nat := command.any_nat) is not None:
        # With an IPv6 address and one of these options, nothing matches in the program.
        never = isinstance(any_nat.address, IPv6Address) and bool(command.given & COMPARED)
        yield (
            lambda flow: (
                not never
                and (
                    _is_translated(flow, any_nat, source=True)
                    or _is_translated(flow, any_nat, source=False)
                )
            )
        )
    if labels := command.labels:
        yield lambda flow: (flow.labels or 0) & labels == labels


def _is_translated(flow: Flow, nat: GivenNAT, *, source: bool) -> bool:
    """Return whether one end of a flow is translated, to the endpoint if one was given."""
    nats = flow.nat
    found = None if nats is None else nats.src if source else nats.dst
    if found is None:
        return False
    if nat.address is None:
        return True
    return found.before.address != found.after.address == nat.address and (
        nat.port is None or found.before.port != found.after.port == nat.port
    )


# The kernel's part


def kernel_match(command: Command) -> Match:
    """Return a match of all flows that the command is about, and perhaps others.

    The kernel applies its conditions, so it saves receiving most of a large table.
    """
    from ...filters.match import Match

    conditions: dict[str, object] = {"family": command.family or None, "proto": command.proto}
    conditions |= _mark_conditions(command)
    networks = {name: (address, mask) for name, address, mask in command.networks}
    for direction, values in (("orig", command.orig), ("reply", command.reply)):
        for end in ("src", "dst"):
            address = getattr(values, end)
            if _is_mapped(address):
                continue
            if direction == "orig" and end in networks:
                address = _network(*networks[end])
            conditions[f"{direction}_{end}"] = address
        if command.proto not in (None, ICMP, ICMPV6):
            conditions[f"{direction}_sport"] = values.sport
            conditions[f"{direction}_dport"] = values.dport
    return Match(**conditions)  # type: ignore[arg-type]


def beyond_kernel_match(command: Command) -> Command:
    """Return a command without the values that :func:`kernel_match` has.

    A flow of that match is one that a command is about if it is one that this command is about.
    Reading a field of each flow of a large table would take as long as writing all of them.
    """
    networks = {name: (address, mask) for name, address, mask in command.networks}
    has_ports = command.proto not in (None, ICMP, ICMPV6)

    def remaining(
        values: TupleValues, masked: Mapping[str, tuple[IPAddress, IPAddress]]
    ) -> TupleValues:
        cleared = {"proto", *(("sport", "dport") if has_ports else ())}
        for end in ("src", "dst"):
            is_compared = end not in masked or _network(*masked[end]) is not None
            if is_compared and not _is_mapped(getattr(values, end)):
                cleared.add(end)
        return values._replace(**dict.fromkeys(cleared))

    return command._replace(
        family=0,
        orig=remaining(command.orig, networks),
        reply=remaining(command.reply, {}),
        mark=None if _mark_conditions(command) else command.mark,
    )


def _mark_conditions(command: Command) -> dict[str, object]:
    """Return the conditions of a match for the mark; none if its mark means something else."""
    mark = command.mark
    # -U sets the mark, and an event may have none. Nothing has bits outside of the mask.
    if (
        mark is None
        or command.action not in (Action.LIST, Action.DELETE)
        or mark.value & ~mark.mask
    ):
        return {}
    return {"mark": mark.value, "mark_mask": mark.mask}


def _network(address: IPAddress, mask: IPAddress) -> IPv4Network | IPv6Network | None:
    """Return the network of an address; ``None`` if the mask is not that of a network."""
    network = IPv4Network if address.version == 4 else IPv6Network
    host_bits = int(mask) ^ (1 << address.max_prefixlen) - 1
    if host_bits & host_bits + 1:
        return None
    prefix = address.max_prefixlen - host_bits.bit_length()
    return network((int(address) & int(mask), prefix))


def _is_mapped(address: object) -> bool:
    """Return whether a match would take an address for an IPv4 address."""
    return isinstance(address, IPv6Address) and address.ipv4_mapped is not None


def has_complete_tuple(command: Command) -> bool:
    """Return whether a command gives all values of the original direction, but perhaps no zone."""
    orig = command.orig
    needed: tuple[object, ...] = (orig.src, orig.dst, command.proto)
    if command.proto in (ICMP, ICMPV6):
        needed += (orig.icmp_type, orig.icmp_code, orig.icmp_id)
    elif command.proto in BY_NUMBER:
        needed += (orig.sport, orig.dport)
    return None not in needed and not command.networks


def names_entry_without_zone(command: Command) -> bool:
    """Return whether a command gives all values of the original direction, and no zone."""
    zones = command.zone, command.orig.zone, command.reply.zone
    return zones == (None, None, None) and has_complete_tuple(command)


def names_entry(command: Command) -> bool:
    """Return whether at most one entry can have the tuple and the zone of a command."""
    zones = command.orig.zone, command.reply.zone
    return command.zone is not None and zones == (None, None) and has_complete_tuple(command)
