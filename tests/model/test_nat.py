"""The translation of a flow, as its tuples and its status show it."""

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


def endpoint(address: str, port: int | None = None) -> Endpoint:
    return Endpoint(ip_address(address), port)


def nat(orig: Tuple, status: Status | None = None, **reply: object) -> NAT | None:
    """Return the translation of a flow whose reply differs in these fields from the inverse."""
    fields = {n: ip_address(v) if isinstance(v, str) else v for n, v in reply.items()}
    return Flow(orig=orig, reply=attrs.evolve(orig.inverse, **fields), status=status).nat


@pytest.mark.parametrize("orig", [TCP, PING, ESP, Tuple.udp("::1", 1, "::2", 2)])
@pytest.mark.parametrize("status", [None, Status(0), Status.ASSURED, BOTH])
def test_the_plain_inverse_is_no_translation(orig: Tuple, status: Status | None) -> None:
    assert nat(orig, status) is None


def test_source_nat() -> None:
    to_router = Translation(endpoint(CLIENT, 40000), endpoint(ROUTER, 40000))
    assert nat(TCP, dst=ROUTER) == NAT(src=to_router)
    to_port = Translation(endpoint(CLIENT, 40000), endpoint(CLIENT, 1024))
    assert nat(TCP, dport=1024) == NAT(src=to_port)


def test_destination_nat() -> None:
    to_server = Translation(endpoint(ROUTER, 8080), endpoint(SERVER, 80))
    assert nat(TCP, src=SERVER, sport=80) == NAT(dst=to_server)


def test_source_and_destination_nat() -> None:
    found = nat(TCP, BOTH, src=SERVER, sport=80, dst=ROUTER, dport=5)
    assert found is not None
    assert str(found.src) == "10.0.0.1:40000 => 192.0.2.1:5"
    assert str(found.dst) == "192.0.2.1:8080 => 198.51.100.9:80"


def test_the_icmp_id_belongs_to_the_source() -> None:
    assert nat(PING, dst=ROUTER) == NAT(src=Translation(endpoint(CLIENT, 7), endpoint(ROUTER, 7)))
    assert nat(PING, icmp_id=9) == NAT(src=Translation(endpoint(CLIENT, 7), endpoint(CLIENT, 9)))
    assert nat(PING, src=ROUTER) == NAT(dst=Translation(endpoint(SERVER), endpoint(ROUTER)))


def test_nat_of_a_protocol_without_ports() -> None:
    assert nat(ESP, dst=ROUTER) == NAT(src=Translation(endpoint(CLIENT), endpoint(ROUTER)))


def test_zones_are_no_translation() -> None:
    assert nat(TCP, zone=5) is None
    assert nat(attrs.evolve(TCP, zone=5)) is None


def test_without_the_status_bit_there_is_no_translation() -> None:
    assert nat(TCP, Status.ASSURED, dst=ROUTER) is None
    found = nat(TCP, Status.DST_NAT, src=SERVER, dst=ROUTER)
    assert found is not None
    assert found.src is None
    assert found.dst is not None


# -- packets ------------------------------------------------------------------------------------


def sides(flow: Flow) -> list[tuple[Tuple, Tuple]]:
    """Return a packet of each direction, as it arrives and as it leaves."""
    return [(flow.orig, flow.reply.inverse), (flow.reply, flow.orig.inverse)]


@pytest.mark.parametrize("orig", [TCP, PING, Tuple.udp("::1", 1, "::2", 2)])
@pytest.mark.parametrize(
    "changed",
    [{}, {"src": "back"}, {"dst": "front"}, {"src": "back", "dst": "front"}],
    ids=["none", "destination", "source", "both"],
)
def test_packets_are_translated_in_both_directions(orig: Tuple, changed: dict[str, str]) -> None:
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


def test_the_icmp_id_is_translated() -> None:
    flow = Flow(orig=PING, reply=attrs.evolve(PING.inverse, icmp_id=9), status=BOTH)
    leaves = Tuple.icmp(CLIENT, SERVER, id=9)
    assert flow.translate(PING) == leaves
    assert flow.translate(leaves.inverse) == PING.inverse


def test_without_the_status_bit_packets_are_not_translated() -> None:
    """Different tuples alone do not mean that packets are changed."""
    flow = Flow(orig=TCP, reply=Tuple.tcp(SERVER, 80, CLIENT, 1), status=Status(0))
    assert flow.translate(flow.orig) == flow.orig
    assert flow.translate(flow.reply) == flow.reply


def test_the_zone_of_a_packet_does_not_count() -> None:
    flow = Flow(orig=attrs.evolve(TCP, zone=3), reply=TCP.inverse)
    assert flow.translate(TCP) == TCP
    assert flow.translate(attrs.evolve(TCP, zone=5)) == TCP
