"""Read the number of entries from the reply with the statistics of the table.

A program that only counts entries needs no class of the model, and their modules take long to
import.
"""

from __future__ import annotations

from ..errors import DecodeError
from ..netlink import nfnetlink
from ..netlink.attributes import walk
from ..netlink.exchange import Reply
from ..uapi.nfnetlink_conntrack import CTA_STATS_GLOBAL


def entry_count_of(reply: Reply) -> int | None:
    """Return the number of entries; ``None`` if the reply has none.

    It is the field :attr:`TableStatistics.entries` of the reply.

    :param reply: the reply to ``IPCTNL_MSG_CT_GET_STATS``.
    :raises DecodeError: when the reply cannot be decoded.
    """
    payload = reply.payload
    found: list[bytes] = []
    try:
        for number, nested, start, end in walk(payload, nfnetlink.SIZE, len(payload)):
            if number == CTA_STATS_GLOBAL.ENTRIES and not nested:
                found.append(bytes(payload[start:end]))
    except DecodeError:
        found.clear()
    if len(found) == 1 and len(found[0]) == 4:
        return int.from_bytes(found[0], "big")
    from .statistics_messages import table_statistics_of  # raises the proper error

    return table_statistics_of(reply).entries
