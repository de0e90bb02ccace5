"""Integer keys of entries, each made of a tuple and its zone.

- No two different tuples, or zones, share a key.
- A dictionary of integers is faster than one of tuples. Hashing a tuple takes one microsecond and
  comparing two takes two, because the addresses do that in Python. Computing a key takes half a
  microsecond, once.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TypeAlias

from ..codec.reference import encode
from ..codec.requests.common import as_argument
from ..model.flow import Flow
from ..model.protocols import ICMP
from ..model.tuples import ICMP_INVERSE, ICMPV6_INVERSE, Tuple, is_plain_tuple
from ..model.values import describe_value, number_within
from ..plain import as_int

Keys: TypeAlias = tuple[int, int | None, int | None]
"""The keys of an entry: of its original tuple; of its reply tuple, unless that is the inverse of
the original tuple; and the id, if it is known."""


def key_of(tuple_: Tuple, zone: int) -> int:
    """Return the key of a tuple with plain values in a zone."""
    src = tuple_.src
    width, form = (32, 0) if type(src) is IPv4Address else (128, 1)
    ends = int(src) << width | int(tuple_.dst)
    ports = (tuple_.sport or 0) << 16 | (tuple_.dport or 0)
    low = tuple_.proto << 18 | zone << 2 | form
    # Generated functions compute the same: see record_functions.
    if tuple_.icmp_id or tuple_.icmp_type or tuple_.icmp_code:
        return _icmp_key(ends, ports, low, tuple_.icmp_id, tuple_.icmp_type, tuple_.icmp_code)
    return ends << 58 | ports << 26 | low


def _icmp_key(
    ends: int, ports: int, low: int, id: int | None, type: int | None, code: int | None
) -> int:
    icmp = (id or 0) << 16 | (type or 0) << 8 | (code or 0)
    return (
        ends << 90 | ports << 58 | icmp << 26 | low | 2 if icmp else ends << 58 | ports << 26 | low
    )


def inverse_key_of(tuple_: Tuple, zone: int) -> int | None:
    """Return the key of the inverse of a tuple; ``None`` if there is no inverse.

    It is :func:`key_of` for :attr:`.Tuple.inverse`, without creating that.
    """
    dst = tuple_.dst
    width, form = (32, 0) if type(dst) is IPv4Address else (128, 1)
    ends = int(dst) << width | int(tuple_.src)
    ports = (tuple_.dport or 0) << 16 | (tuple_.sport or 0)
    low = tuple_.proto << 18 | zone << 2 | form
    if tuple_.icmp_id is tuple_.icmp_type is tuple_.icmp_code is None:
        return ends << 58 | ports << 26 | low
    inverse = inverse_icmp_type(tuple_.proto, tuple_.icmp_type)
    if inverse is None and tuple_.icmp_type is not None:
        return None
    return _icmp_key(ends, ports, low, tuple_.icmp_id, inverse, tuple_.icmp_code)


def plain_tuple(tuple_: Tuple) -> Tuple:
    """Return a tuple that a program passed, with plain values that fit their fields.

    Every tuple that the kernel sends has such values. They are required for :func:`key_of`: a value
    out of range would give the key of another tuple.

    :raises TypeError: when it is not a :class:`Tuple`.
    :raises EncodeError: when a value does not fit its field, or the addresses are of two families.
    """
    return tuple_ if is_plain_tuple(tuple_) else _convert_tuple(tuple_)


def _convert_tuple(tuple_: Tuple) -> Tuple:
    if not issubclass(type(tuple_), Tuple):  # pyright: ignore[reportUnnecessaryIsInstance]
        hint = "; pass its orig" if issubclass(type(tuple_), Flow) else ""
        raise TypeError(f"a look-up takes a Tuple; got {describe_value(tuple_)}{hint}")
    plain = as_argument(tuple_, Tuple, "")
    encode(plain)  # raises what encoding a request with this tuple would raise
    return plain


def plain_zone(zone: object) -> int:
    """Return a zone that a program passed, as a plain integer.

    :raises TypeError: when it is not an integer.
    :raises EncodeError: when it is outside 0 to 65535.
    """
    try:
        number = as_int(zone)
    except TypeError:
        raise TypeError(f"zone must be a number; got {describe_value(zone)}") from None
    return number_within(number, 0xFFFF, "zone")


def orig_key(flow: Flow) -> int:
    """Return the key of a flow's original tuple. No two entries of a namespace share it.

    The kernel refuses a new entry if an existing one has the same original tuple in the same zone
    of that direction (``nf_ct_key_equal``). The same holds for reply tuples. But the original tuple
    of one entry may be the reply tuple of another if a zone applies to one direction only. An entry
    of a resolved clash (``IPS_NAT_CLASH``) has the original tuple of another entry; no dump
    contains it.
    """
    orig = flow.orig
    return key_of(orig, (flow.zone if orig.zone is None else orig.zone) or 0)


def reply_key(flow: Flow) -> int:
    """Return the key of a flow's reply tuple. No other entry has it as its reply tuple."""
    reply = flow.reply
    return key_of(reply, (flow.zone if reply.zone is None else reply.zone) or 0)


def keys_of(flow: Flow) -> Keys:
    """Return the keys of a flow."""
    return orig_key(flow), None if reply_is_inverse(flow) else reply_key(flow), flow.id


def reply_is_inverse(flow: Flow) -> bool:
    """Return whether the original tuple is the inverse of the reply tuple, in the same zone.

    This holds for most entries. Their reply keys need not be stored, because they can be computed.
    """
    orig, reply = flow.orig, flow.reply
    # Comparing addresses inside tuples skips the comparison of identical objects.
    return (
        orig.sport == reply.dport
        and orig.dport == reply.sport
        and orig.proto == reply.proto
        and orig.icmp_id == reply.icmp_id
        and orig.icmp_type == inverse_icmp_type(reply.proto, reply.icmp_type)
        and orig.icmp_code == reply.icmp_code
        and (orig.icmp_type is None) == (reply.icmp_type is None)
        and orig.zone is reply.zone is None
        and (orig.src, orig.dst) == (reply.dst, reply.src)
    )


def inverse_icmp_type(proto: int, icmp_type: int | None) -> int | None:
    """Return the type that :attr:`.Tuple.inverse` has; ``None`` if there is none."""
    if icmp_type is None:
        return None
    return (ICMP_INVERSE if proto == ICMP else ICMPV6_INVERSE).get(icmp_type)
