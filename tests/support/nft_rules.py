"""Parts of nftables rules that only tests use."""

from __future__ import annotations

from conntrack_aio.netlink.attributes import pack_be32, pack_nest, pack_text
from conntrack_aio.netlink.exchange import Request
from conntrack_aio.sandbox.rules import new_object
from conntrack_aio.uapi.nf_tables import NF_INET, NFT_MSG, NFTA_CHAIN, NFTA_HOOK

NF_IP_PRI_NAT_SRC = 100
"""The priority of source NAT (``linux/netfilter_ipv4.h``)."""


def new_source_nat_chain(table: str, name: str) -> Request:
    """Return the request that creates a base chain of type ``nat`` for source NAT."""
    attributes = (
        pack_text(NFTA_CHAIN.TABLE, table)
        + pack_text(NFTA_CHAIN.NAME, name)
        + pack_nest(
            NFTA_CHAIN.HOOK,
            pack_be32(NFTA_HOOK.HOOKNUM, NF_INET.POST_ROUTING),
            pack_be32(NFTA_HOOK.PRIORITY, NF_IP_PRI_NAT_SRC),
        )
        + pack_text(NFTA_CHAIN.TYPE, "nat")
    )
    return new_object("chain", f"{table} {name}", NFT_MSG.NEWCHAIN, attributes)
