"""Whether the kernel tracks connections in a network namespace.

It does so while some firewall rule there needs it, and ctnetlink does not tell. What can be asked:

- the functions that see packets (``nfnetlink_hook``, Linux 5.14), where the kernel was built with
  that: the tracker's own are among them while it tracks;
- the rules of nftables, and those of iptables that are kept there: some need connections.

Neither proves that nothing is tracked. Rules of the older iptables can't be listed by netlink, but
whether there are tables of them is seen; Open vSwitch and traffic control can have it done as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from .errors import ConntrackError
from .netlink import messages, nfnetlink
from .netlink.attributes import pack_be32, pack_text
from .netlink.exchange import DumpExchange, Request
from .netlink.socket import NetlinkSocket
from .uapi.nf_tables import NF_INET, NFPROTO, NFT_MSG, NFTA_EXPR
from .uapi.nfnetlink import NFNL_SUBSYS
from .uapi.nfnetlink_hook import NFNL_MSG_HOOK, NFNLA_HOOK

_FUNCTIONS: Final = {
    NFPROTO.IPV4: b"ipv4_conntrack_in\0",
    NFPROTO.IPV6: b"ipv6_conntrack_in\0",
    NFPROTO.BRIDGE: b"nf_ct_bridge_pre\0",
}
"""The tracker's functions for packets that are received."""

_NEEDS_CONNECTIONS: Final = tuple(
    # A match or a target of iptables has its name in an attribute of the same number and form.
    pack_text(NFTA_EXPR.NAME, name)
    for name in (
        *("ct", "connlimit", "masq", "nat", "redir", "flow_offload", "synproxy"),
        *("conntrack", "state", "connmark", "connbytes", "connlabel", "helper"),
        *("MASQUERADE", "SNAT", "DNAT", "REDIRECT", "NETMAP", "CONNMARK", "SYNPROXY"),
    )
)


_LEGACY_TABLES: Final = (
    "/proc/thread-self/net/ip_tables_names",
    "/proc/thread-self/net/ip6_tables_names",
)
"""The tables of the older iptables that the namespace has."""


def is_tracking(open: Callable[[], NetlinkSocket]) -> bool | None:
    """Return whether connections are known to be tracked in the calling thread's namespace.

    ``None``: no rule was found, but there are tables whose rules can't be listed, or the kernel
    could not be asked. ``open`` makes a socket of netfilter's protocol. The kernel may load modules
    for the questions. Blocks for as long as it takes to list the rules.
    """
    found = _is_known_to_track(open)
    if not found and any(map(_has_lines, _LEGACY_TABLES)):
        return None
    return found


def _has_lines(path: str) -> bool:
    try:
        return bool(Path(path).read_text())
    except OSError:
        return False  # the kernel has no such iptables


def _is_known_to_track(open: Callable[[], NetlinkSocket]) -> bool | None:
    """``None`` if the kernel can't be asked."""
    try:
        with closing(open()) as socket:
            return any(
                needle in reply
                for request, needles in _questions()
                for reply in _dump(socket, request)
                for needle in needles
            )
    except (ConntrackError, OSError):
        return None


def _questions() -> Iterator[tuple[Request, tuple[bytes, ...]]]:
    """The dumps, and bytes that are in a message of those only where connections are tracked."""
    kind = nfnetlink.message_type(NFNL_SUBSYS.HOOK, NFNL_MSG_HOOK.GET)
    for family, function in _FUNCTIONS.items():
        payload = nfnetlink.pack(family) + pack_be32(NFNLA_HOOK.HOOKNUM, NF_INET.PRE_ROUTING)
        yield Request("list", "the hooks", kind, 0, payload), (function,)
    kind = nfnetlink.message_type(NFNL_SUBSYS.NFTABLES, NFT_MSG.GETRULE)
    yield Request("list", "the rules", kind, 0, nfnetlink.pack(NFPROTO.UNSPEC)), _NEEDS_CONNECTIONS


def _dump(socket: NetlinkSocket, request: Request) -> Iterator[bytes]:
    """The messages of a dump; fewer, if the kernel refuses it."""
    exchange = DumpExchange(request, seq=1)
    socket.send(exchange.data)
    while exchange.failure is None:
        size = socket.receive()
        for message in messages.walk(socket.buffer, size):
            if exchange.takes(socket.buffer, message):
                yield bytes(socket.buffer[message.start : message.end])
