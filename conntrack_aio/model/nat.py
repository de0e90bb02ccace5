"""Network address translation, as a flow's two tuples tell of it."""

from __future__ import annotations

import attrs

from ..uapi.nf_conntrack_common import IPS
from .tuples import IPAddress, Tuple, describe_endpoint


@attrs.frozen
class Endpoint:
    """One end of a connection."""

    address: IPAddress
    port: int | None = None
    """The port, or what the protocol has in its place: GRE's key, ICMP's identifier."""

    def __str__(self) -> str:
        return describe_endpoint(self.address, self.port)


@attrs.frozen
class Translation:
    """What one end of a connection is translated to."""

    before: Endpoint
    """As it stands in packets of the original direction that arrive."""
    after: Endpoint
    """As it stands in them when they leave, and in the answers."""

    def __str__(self) -> str:
        return f"{self.before} => {self.after}"


@attrs.frozen
class NAT:
    """Which ends of a flow are translated, and to what; see :attr:`Flow.nat`."""

    src: Translation | None = None
    """Of the original direction's source: SNAT, masquerading."""
    dst: Translation | None = None
    """Of its destination: DNAT, redirection."""


def translation(orig: Tuple, reply: Tuple, status: IPS | None) -> NAT | None:
    """What the tuples of a flow say: the reply's ends are those behind the translation.

    A status that is told decides whether the kernel translates at all (``nf_nat_packet``).
    """
    # ICMP has one identifier for both ends, which belongs to the source: that is what is
    # translated with it (icmp_manip_pkt).
    src = _between(
        Endpoint(orig.src, orig.sport if orig.icmp_id is None else orig.icmp_id),
        Endpoint(reply.dst, reply.dport if reply.icmp_id is None else reply.icmp_id),
    )
    dst = _between(Endpoint(orig.dst, orig.dport), Endpoint(reply.src, reply.sport))
    if status is not None:
        src = src if status & IPS.SRC_NAT else None
        dst = dst if status & IPS.DST_NAT else None
    return NAT(src, dst) if src or dst else None


def _between(before: Endpoint, after: Endpoint) -> Translation | None:
    return None if before == after else Translation(before, after)
