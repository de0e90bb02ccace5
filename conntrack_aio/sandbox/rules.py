"""nftables over netlink: as much as it takes to have the kernel track connections.

The kernel tracks nothing in a network namespace until a rule there needs connections. One rule that
loads ``ct state`` into a register is enough, in any chain: the expression registers the hooks of
connection tracking (``nf_ct_netns_get``). In a table of the family ``inet``, it does so for IPv4
and IPv6, and for packets that are sent, received and forwarded.
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
"""The name of the table that :func:`track_connections` creates."""

_NEEDS_NFTABLES = (
    "nf_tables",
    "nftables with connection tracking (CONFIG_NF_TABLES_INET, CONFIG_NFT_CT)",
)
_NEEDS_INET = ("nft-chain-1-filter", "filter chains of both families (CONFIG_NF_TABLES_INET)")
_NEEDS_CT = ("nft_ct", "nftables' connection tracking (CONFIG_NFT_CT)")
"""The module to load, by a name or an alias, and the missing part, for each refused request."""

_INET = nfnetlink.pack(NFPROTO.INET)
_NFTABLES = nfnetlink.pack(NFPROTO.UNSPEC, resource=NFNL_SUBSYS.NFTABLES)


def track_connections() -> None:
    """Make the kernel track connections in the calling thread's network namespace.

    This creates the table :data:`TABLE`; its removal would stop the tracking. The kernel loads the
    modules that it needs.

    :raises NotSupported: when the kernel lacks nftables or its connection tracking, or cannot load
        a module, which the error names.
    :raises PermissionDenied: when the program lacks CAP_NET_ADMIN there.
    """
    table = new_table(TABLE)
    chain = new_chain(TABLE, "track", NF_INET.LOCAL_OUT)
    rule = new_rule(TABLE, "track", load_ct(NFT_CT.STATE))
    try:
        commit(table, chain, rule)
    except (NotFound, NotSupported) as error:
        # nftables reports ENOENT for an unknown type of chain or expression. If nftables is missing
        # as a whole, the kernel refuses the transaction with the first change's sequence number.
        module, option = _NEEDS_NFTABLES
        if error.request == str(chain):
            module, option = _NEEDS_INET
        elif error.request == str(rule):
            module, option = _NEEDS_CT
        raise NotSupported(
            error.errno or 0,
            "track connections by an nftables rule",
            error.detail,
            f"This kernel was built without {option}, or could not load its module: "
            f"`modprobe {module}` shows the reason. In a container, run that on the host",
        ) from error


def commit(*changes: Request) -> None:
    """Make all changes in one transaction: all or none.

    :raises KernelError: when the kernel refuses a change; it is that of the first refused one.
    """
    exchange = Exchange(changes, seq=1)
    # The kernel replies to the begin and end messages only if it refuses the whole transaction.
    # They have the first change's sequence number, so that the refusal is attributed to it.
    begin = messages.pack(NFNL_MSG.BATCH_BEGIN, NLM_F.REQUEST, 1, _NFTABLES)
    end = messages.pack(NFNL_MSG.BATCH_END, NLM_F.REQUEST, 1, _NFTABLES)
    exchange.data = begin + exchange.data + end
    run_exchange(NETLINK.NETFILTER, exchange)


def new_table(name: str) -> Request:
    """Return the request that creates a table of the family ``inet``.

    The kernel accepts it if the table exists already.
    """
    return new_object("table", name, NFT_MSG.NEWTABLE, pack_text(NFTA_TABLE.NAME, name))


def new_chain(table: str, name: str, hook: NF_INET) -> Request:
    """Return the request that creates a base chain of type ``filter`` and priority 0.

    The kernel accepts it if the chain exists already.
    """
    attributes = (
        pack_text(NFTA_CHAIN.TABLE, table)
        + pack_text(NFTA_CHAIN.NAME, name)
        + pack_nest(
            NFTA_CHAIN.HOOK,
            pack_be32(NFTA_HOOK.HOOKNUM, hook),
            pack_be32(NFTA_HOOK.PRIORITY, 0),
        )
        + pack_text(NFTA_CHAIN.TYPE, "filter")
    )
    return new_object("chain", f"{table} {name}", NFT_MSG.NEWCHAIN, attributes)


def new_rule(table: str, chain: str, *expressions: bytes) -> Request:
    """Return the request that appends a rule to a chain; :func:`expression` makes its parts."""
    attributes = (
        pack_text(NFTA_RULE.TABLE, table)
        + pack_text(NFTA_RULE.CHAIN, chain)
        + pack_nest(NFTA_RULE.EXPRESSIONS, *expressions)
    )
    return new_object("rule", f"in {table} {chain}", NFT_MSG.NEWRULE, attributes, NLM_F.APPEND)


def expression(name: str, *attributes: bytes) -> bytes:
    """Return an expression of a rule, such as ``"ct"``, ``"masq"`` or ``"immediate"``."""
    return pack_nest(
        NFTA_LIST.ELEM,
        pack_text(NFTA_EXPR.NAME, name),
        pack_nest(NFTA_EXPR.DATA, *attributes),
    )


def load_ct(key: NFT_CT) -> bytes:
    """Return the expression that loads a property of the packet's connection into a register."""
    return expression("ct", pack_be32(NFTA_CT.KEY, key), pack_be32(NFTA_CT.DREG, NFT_REG_1))


def new_object(
    type: str, name: str, message: NFT_MSG, attributes: bytes, flags: int = 0
) -> Request:
    """Return the request that creates an object of nftables.

    Errors name the object by ``type`` and ``name``.
    """
    return Request(
        f"create the nftables {type}",
        name,
        nfnetlink.message_type(NFNL_SUBSYS.NFTABLES, message),
        NLM_F.CREATE | flags,
        _INET + attributes,
    )
