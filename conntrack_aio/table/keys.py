"""What entries are found by: one number for a tuple and its zone.

A tuple hashes in a microsecond and compares in two, since addresses do that in Python; a number
takes half of that, once, and then the dictionary's own time. It is exact: no two tuples share one.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from ..codec.reference import encode
from ..codec.requests.common import as_argument
from ..model.flow import Flow
from ..model.tuples import Tuple, is_plain_tuple
from ..model.values import describe_value, number_within
from ..plain import as_int


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


def plain_tuple(tuple_: Tuple) -> Tuple:
    """Return a tuple that was passed in with plain values, each in its range.

    What the kernel sends is such a tuple, so that the numbers of two are never the same.

    :raises TypeError: for what is not a Tuple.
    :raises EncodeError: for a value that can't be in its field, and addresses of two families.
    """
    return tuple_ if is_plain_tuple(tuple_) else _made_plain(tuple_)


def _made_plain(tuple_: Tuple) -> Tuple:
    if not issubclass(type(tuple_), Tuple):  # pyright: ignore[reportUnnecessaryIsInstance]
        hint = "; use its orig" if issubclass(type(tuple_), Flow) else ""
        raise TypeError(f"entries are looked up by a Tuple, not by {describe_value(tuple_)}{hint}")
    plain = as_argument(tuple_, Tuple, "")
    encode(plain)  # it refuses what a request would be refused for
    return plain


def plain_zone(zone: object) -> int:
    """Return the plain number of a zone that was passed in.

    :raises TypeError: for what is not an integer.
    :raises EncodeError: for a number that can't be a zone's.
    """
    try:
        number = as_int(zone)
    except TypeError:
        raise TypeError(f"zone must be a number; got {describe_value(zone)}") from None
    return number_within(number, 0xFFFF, "zone")


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
