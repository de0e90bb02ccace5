"""What a flow's tuples say of its translation."""

from __future__ import annotations

from ipaddress import ip_address

import attrs
import pytest

from conntrack_aio import NAT, Endpoint, Flow, Status, Translation, Tuple

CLIENT, ROUTER, SERVER = "10.0.0.1", "192.0.2.1", "198.51.100.9"
TCP = Tuple.tcp(CLIENT, 40000, ROUTER, 8080)
PING = Tuple.icmp(CLIENT, SERVER, id=7)
ESP = Tuple(src=ip_address(CLIENT), dst=ip_address(SERVER), proto=50)
BOTH = Status.SRC_NAT | Status.DST_NAT


def end(address: str, port: int | None = None) -> Endpoint:
    return Endpoint(ip_address(address), port)


def nat(orig: Tuple, status: Status | None = None, **reply: object) -> NAT | None:
    """Of a flow whose reply differs in these fields from the plain inverse."""
    fields = {n: ip_address(v) if isinstance(v, str) else v for n, v in reply.items()}
    return Flow(orig=orig, reply=attrs.evolve(orig.inverse, **fields), status=status).nat


@pytest.mark.parametrize("orig", [TCP, PING, ESP, Tuple.udp("::1", 1, "::2", 2)])
@pytest.mark.parametrize("status", [None, Status(0), Status.ASSURED, BOTH])
def test_the_plain_inverse_is_no_translation(orig: Tuple, status: Status | None) -> None:
    assert nat(orig, status) is None


def test_source() -> None:
    to_router = Translation(end(CLIENT, 40000), end(ROUTER, 40000))
    assert nat(TCP, dst=ROUTER) == NAT(src=to_router)
    to_port = Translation(end(CLIENT, 40000), end(CLIENT, 1024))
    assert nat(TCP, dport=1024) == NAT(src=to_port)


def test_destination() -> None:
    to_server = Translation(end(ROUTER, 8080), end(SERVER, 80))
    assert nat(TCP, src=SERVER, sport=80) == NAT(dst=to_server)


def test_both_ends() -> None:
    told = nat(TCP, BOTH, src=SERVER, sport=80, dst=ROUTER, dport=5)
    assert told is not None
    assert str(told.src) == "10.0.0.1:40000 => 192.0.2.1:5"
    assert str(told.dst) == "192.0.2.1:8080 => 198.51.100.9:80"


def test_the_identifier_of_a_ping_is_its_sources() -> None:
    assert nat(PING, dst=ROUTER) == NAT(src=Translation(end(CLIENT, 7), end(ROUTER, 7)))
    assert nat(PING, icmp_id=9) == NAT(src=Translation(end(CLIENT, 7), end(CLIENT, 9)))
    assert nat(PING, src=ROUTER) == NAT(dst=Translation(end(SERVER), end(ROUTER)))


def test_a_protocol_without_ports() -> None:
    assert nat(ESP, dst=ROUTER) == NAT(src=Translation(end(CLIENT), end(ROUTER)))


def test_zones_are_no_translation() -> None:
    assert nat(TCP, zone=5) is None
    assert nat(attrs.evolve(TCP, zone=5)) is None


def test_what_the_kernel_does_not_mark_it_does_not_translate() -> None:
    assert nat(TCP, Status.ASSURED, dst=ROUTER) is None
    told = nat(TCP, Status.DST_NAT, src=SERVER, dst=ROUTER)
    assert told is not None
    assert told.src is None
    assert told.dst is not None


# -- packets on either side ---------------------------------------------------------------------


def sides(flow: Flow) -> list[tuple[Tuple, Tuple]]:
    """A packet of each direction, as it arrives and as it leaves."""
    return [(flow.orig, flow.reply.inverse), (flow.reply, flow.orig.inverse)]


@pytest.mark.parametrize("orig", [TCP, PING, Tuple.udp("::1", 1, "::2", 2)])
@pytest.mark.parametrize(
    "changed",
    [{}, {"src": "back"}, {"dst": "front"}, {"src": "back", "dst": "front"}],
    ids=["none", "destination", "source", "both"],
)
def test_packets_are_translated_both_ways(orig: Tuple, changed: dict[str, str]) -> None:
    reply = orig.inverse
    for name, which in changed.items():
        number = 1 if which == "back" else 2
        base = ip_address("203.0.113.0" if orig.src.version == 4 else "2001:db8::")
        setattr(reply, name, base + number)
    flow = Flow(orig=orig, reply=reply, status=BOTH)
    for arrives, leaves in sides(flow):
        assert flow.translate(arrives) == leaves
        assert flow.translate(leaves) == arrives
    assert flow.translate(Tuple.tcp("192.0.2.77", 1, "192.0.2.78", 2)) is None


def test_ports_are_translated_too() -> None:
    flow = Flow(orig=TCP, reply=attrs.evolve(TCP.inverse, sport=80, dport=5), status=BOTH)
    assert flow.translate(TCP) == Tuple.tcp(CLIENT, 5, ROUTER, 80)
    assert flow.translate(Tuple.tcp(ROUTER, 80, CLIENT, 5)) == TCP.inverse


def test_the_identifier_of_a_ping_is_translated() -> None:
    flow = Flow(orig=PING, reply=attrs.evolve(PING.inverse, icmp_id=9), status=BOTH)
    leaves = Tuple.icmp(CLIENT, SERVER, id=9)
    assert flow.translate(PING) == leaves
    assert flow.translate(leaves.inverse) == PING.inverse


def test_what_the_kernel_does_not_translate_is_not() -> None:
    """Tuples that differ alone change no packet."""
    flow = Flow(orig=TCP, reply=Tuple.tcp(SERVER, 80, CLIENT, 1), status=Status(0))
    assert flow.translate(flow.orig) == flow.orig
    assert flow.translate(flow.reply) == flow.reply


def test_the_zone_of_a_packet_does_not_count() -> None:
    flow = Flow(orig=attrs.evolve(TCP, zone=3), reply=TCP.inverse)
    assert flow.translate(TCP) == TCP
    assert flow.translate(attrs.evolve(TCP, zone=5)) == TCP
