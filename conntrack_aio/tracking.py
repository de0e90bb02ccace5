"""Determine whether the kernel tracks connections in a network namespace.

The kernel does so while a firewall rule there needs connections. ctnetlink does not report it.
There are two other sources:

- The registered hook functions (``nfnetlink_hook``, since Linux 5.14, if the kernel was built with
  it). They include those of connection tracking while it is active.
- The rules of nftables, which include those of iptables-nft. Some of them need connections.

Neither source proves that nothing is tracked. Netlink cannot list the rules of the legacy
iptables; only the existence of its tables is visible. Open vSwitch and traffic control can also
enable connection tracking.
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
"""The hook functions of connection tracking for received packets."""

_NEEDS_CONNECTIONS: Final = tuple(
    # An iptables match or target has its name in an attribute of the same number and encoding.
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
"""The files that list the network namespace's tables of the legacy iptables."""


def is_tracking(open: Callable[[], NetlinkSocket]) -> bool | None:
    """Return whether connections are known to be tracked in the calling thread's network namespace.

    The kernel may load modules for the requests. The call blocks until the rules are listed.

    :param open: opens a socket of the protocol ``NETLINK_NETFILTER``.
    :returns: ``None`` if no rule was found, but there are tables whose rules cannot be listed; or
        if the requests failed.
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
    """Return whether a hook or a rule was found, and ``None`` if the requests failed."""
    try:
        with closing(open()) as socket:
            return any(
                needle in reply
                for request, needles in _requests()
                for reply in _dump(socket, request)
                for needle in needles
            )
    except (ConntrackError, OSError):
        return None


def _requests() -> Iterator[tuple[Request, tuple[bytes, ...]]]:
    """Yield dump requests, and bytes that are in replies only if connections are tracked."""
    type_ = nfnetlink.message_type(NFNL_SUBSYS.HOOK, NFNL_MSG_HOOK.GET)
    for family, function in _FUNCTIONS.items():
        payload = nfnetlink.pack(family) + pack_be32(NFNLA_HOOK.HOOKNUM, NF_INET.PRE_ROUTING)
        yield Request("list", "the hooks", type_, 0, payload), (function,)
    type_ = nfnetlink.message_type(NFNL_SUBSYS.NFTABLES, NFT_MSG.GETRULE)
    yield Request("list", "the rules", type_, 0, nfnetlink.pack(NFPROTO.UNSPEC)), _NEEDS_CONNECTIONS


def _dump(socket: NetlinkSocket, request: Request) -> Iterator[bytes]:
    """Yield the messages of a dump, until the end or an error."""
    exchange = DumpExchange(request, seq=1)
    socket.send(exchange.data)
    while exchange.completion is None:
        size = socket.receive()
        for message in messages.walk(socket.buffer, size):
            if exchange.accepts(socket.buffer, message):
                yield bytes(socket.buffer[message.start : message.end])
