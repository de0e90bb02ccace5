"""nftables over netlink, as much as it takes to have connections tracked.

The kernel tracks nothing in a network namespace until somebody there asks about connections. One
rule that loads ``ct state`` into a register is enough, whatever chain it is in: the expression
registers the tracker's own hooks (``nf_ct_netns_get``), in a table of the family ``inet`` for
IPv4 and IPv6 both, for what is sent, received and forwarded.
"""

from __future__ import annotations

from ..errors import NotFound, NotSupported
from ..netlink import messages, nfnetlink
from ..netlink.attributes import pack_be32, pack_nest, pack_text
from ..netlink.exchange import Exchange, Request
from ..netlink.receiving import run_exchange
from ..uapi.netlink import NETLINK, NLM_F
from ..uapi.nf_tables import (
    NF_INET,
    NFPROTO,
    NFT_CT,
    NFT_MSG,
    NFT_REG_1,
    NFTA_CHAIN,
    NFTA_CT,
    NFTA_EXPR,
    NFTA_HOOK,
    NFTA_LIST,
    NFTA_RULE,
    NFTA_TABLE,
)
from ..uapi.nfnetlink import NFNL_MSG, NFNL_SUBSYS

TABLE = "conntrack_aio"

_TAKES_NFTABLES = (
    "nf_tables",
    "nftables with connection tracking (CONFIG_NF_TABLES_INET, CONFIG_NFT_CT)",
)
_TAKES_INET = ("nft-chain-1-filter", "filter chains of both families (CONFIG_NF_TABLES_INET)")
_TAKES_CT = ("nft_ct", "nftables' connection tracking (CONFIG_NFT_CT)")
"""By what was refused: the module to load, by a name or an alias, and what was not built."""

_INET = nfnetlink.pack(NFPROTO.INET)
_NFTABLES = nfnetlink.pack(NFPROTO.UNSPEC, resource=NFNL_SUBSYS.NFTABLES)


def track_connections() -> None:
    """Have the kernel track connections in the calling thread's network namespace.

    It makes the table :data:`TABLE` for that, whose removal would end it. The kernel loads the
    modules that it takes.

    :raises NotSupported: the kernel lacks nftables or its part of connection tracking, or can't
        load a module; the error names it.
    :raises PermissionDenied: without CAP_NET_ADMIN there.
    """
    table = new_table(TABLE)
    chain = new_chain(TABLE, "track", NF_INET.LOCAL_OUT)
    rule = new_rule(TABLE, "track", load_ct(NFT_CT.STATE))
    try:
        commit(table, chain, rule)
    except (NotFound, NotSupported) as error:
        # ENOENT is how nftables says that it has no such kind of chain or expression. Where it is
        # missing as a whole the transaction is refused, under the number of its first change.
        module, option = _TAKES_NFTABLES
        if error.request == str(chain):
            module, option = _TAKES_INET
        elif error.request == str(rule):
            module, option = _TAKES_CT
        raise NotSupported(
            error.errno or 0,
            "track connections by an nftables rule",
            error.detail,
            f"This kernel was built without {option}, or could not load its module: "
            f"`modprobe {module}` says why. In a container, run that on the host",
        ) from error


def commit(*changes: Request) -> None:
    """Make all the changes, or none. Raises the first one's refusal, a :exc:`KernelError`."""
    exchange = Exchange(changes, seq=1)
    # The kernel answers the frame of a transaction only when it refuses the whole of it. It
    # bears the first change's number, so that such a refusal is that change's.
    begin = messages.pack(NFNL_MSG.BATCH_BEGIN, NLM_F.REQUEST, 1, _NFTABLES)
    end = messages.pack(NFNL_MSG.BATCH_END, NLM_F.REQUEST, 1, _NFTABLES)
    exchange.data = begin + exchange.data + end
    run_exchange(NETLINK.NETFILTER, exchange)


def new_table(name: str) -> Request:
    """A table of the family ``inet``; it may exist."""
    return _new("table", name, NFT_MSG.NEWTABLE, pack_text(NFTA_TABLE.NAME, name))


def new_chain(
    table: str, name: str, hook: NF_INET, *, kind: str = "filter", priority: int = 0
) -> Request:
    """A base chain, of the kind ``filter``, ``nat`` or ``route``; it may exist.

    Chains of one hook run in the order of their priorities: 0 is that of filters, 100 that of
    source NAT (linux/netfilter_ipv4.h).
    """
    place = pack_nest(
        NFTA_CHAIN.HOOK,
        pack_be32(NFTA_HOOK.HOOKNUM, hook),
        pack_be32(NFTA_HOOK.PRIORITY, priority & 0xFFFFFFFF),
    )
    attributes = (
        pack_text(NFTA_CHAIN.TABLE, table)
        + pack_text(NFTA_CHAIN.NAME, name)
        + place
        + pack_text(NFTA_CHAIN.TYPE, kind)
    )
    return _new("chain", f"{table} {name}", NFT_MSG.NEWCHAIN, attributes)


def new_rule(table: str, chain: str, *expressions: bytes) -> Request:
    """A rule at the end of a chain, of what :func:`expression` makes."""
    attributes = (
        pack_text(NFTA_RULE.TABLE, table)
        + pack_text(NFTA_RULE.CHAIN, chain)
        + pack_nest(NFTA_RULE.EXPRESSIONS, *expressions)
    )
    return _new("rule", f"in {table} {chain}", NFT_MSG.NEWRULE, attributes, NLM_F.APPEND)


def expression(name: str, *attributes: bytes) -> bytes:
    """One step of a rule: ``"ct"``, ``"masq"``, ``"immediate"``…"""
    return pack_nest(
        NFTA_LIST.ELEM,
        pack_text(NFTA_EXPR.NAME, name),
        pack_nest(NFTA_EXPR.DATA, *attributes),
    )


def load_ct(key: NFT_CT) -> bytes:
    """The expression that loads a property of the packet's connection into a register."""
    return expression("ct", pack_be32(NFTA_CT.KEY, key), pack_be32(NFTA_CT.DREG, NFT_REG_1))


def _new(what: str, name: str, message: NFT_MSG, attributes: bytes, flags: int = 0) -> Request:
    return Request(
        f"create the nftables {what}",
        name,
        nfnetlink.message_type(NFNL_SUBSYS.NFTABLES, message),
        NLM_F.CREATE | flags,
        _INET + attributes,
    )
