"""What entries are found by: one number for a tuple and its zone.

A tuple hashes in a microsecond and compares in two, since addresses do that in Python; a number
takes half of that, once, and then the dictionary's own time. It is exact: no two tuples share one.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from ..model.flow import Flow
from ..model.tuples import Tuple


def key_of(tuple_: Tuple, zone: int) -> int:
    """The number of a tuple in a zone."""
    src = tuple_.src
    width, form = (32, 0) if type(src) is IPv4Address else (128, 1)
    number = int(src) << width | int(tuple_.dst)
    number = number << 32 | (tuple_.sport or 0) << 16 | (tuple_.dport or 0)
    if tuple_.icmp_id or tuple_.icmp_type or tuple_.icmp_code:
        kind = (tuple_.icmp_type or 0) << 8 | (tuple_.icmp_code or 0)
        number = number << 32 | (tuple_.icmp_id or 0) << 16 | kind
        form |= 2
    return (number << 8 | tuple_.proto) << 18 | zone << 2 | form


def asked_key(tuple_: Tuple, zone: int) -> int | None:
    """The number of a tuple that somebody made up; ``None`` of one that no entry can have.

    What the kernel tells is always in range, and so are the numbers of two tuples never the same.
    """
    numbers = (tuple_.sport, tuple_.dport, tuple_.icmp_id, zone)
    octets = (tuple_.proto, tuple_.icmp_type, tuple_.icmp_code)
    if any(number and number >> 16 for number in numbers):
        return None
    if any(octet and octet >> 8 for octet in octets) or type(tuple_.src) is not type(tuple_.dst):
        return None
    return key_of(tuple_, zone)


def orig_key(flow: Flow) -> int:
    """The number of a flow's original tuple. No two entries of a namespace share it.

    When the kernel adds an entry, it refuses one whose original tuple an entry has in the same zone
    of that direction (``nf_ct_key_equal``); and so with reply tuples. But an original tuple may be
    another entry's reply tuple, where a zone is of one direction alone. An entry of a clash that
    was resolved (``IPS_NAT_CLASH``) has another's original tuple, and is in no dump.
    """
    orig = flow.orig
    return key_of(orig, (flow.zone if orig.zone is None else orig.zone) or 0)


def reply_key(flow: Flow) -> int:
    """The number of its reply tuple, which no other entry has as its reply tuple either."""
    reply = flow.reply
    return key_of(reply, (flow.zone if reply.zone is None else reply.zone) or 0)


def is_plain(flow: Flow) -> bool:
    """Whether the reply tuple is the original one with its ends exchanged, in the same zone.

    So are most; their numbers of the other direction need not be kept.
    """
    orig, reply = flow.orig, flow.reply
    # Addresses that are the same object need no comparing, within a tuple of them.
    return (
        orig.sport == reply.dport
        and orig.dport == reply.sport
        and orig.proto == reply.proto
        and orig.icmp_id is reply.icmp_id is None
        and orig.icmp_type is reply.icmp_type is None
        and orig.icmp_code is reply.icmp_code is None
        and orig.zone is reply.zone is None
        and (orig.src, orig.dst) == (reply.dst, reply.src)
    )
