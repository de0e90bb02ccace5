"""Keys of entries: the bytes of a tuple and its zone.

- No two different tuples, or zones, share a key.
- A dictionary of bytes is faster than one of tuples. Hashing a tuple takes one microsecond and
  comparing two takes two, because the addresses do that in Python. Computing a key takes half a
  microsecond, once.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from struct import Struct
from typing import Final, TypeAlias

from ..codec.reference import encode
from ..codec.requests.common import as_argument
from ..model.flow import Flow
from ..model.protocols import ICMP
from ..model.tuples import ICMP_INVERSE, ICMPV6_INVERSE, IPAddress, Tuple, is_plain_tuple
from ..model.values import describe_value, number_within
from ..plain import as_int

Key: TypeAlias = bytes
"""The key of a tuple in a zone."""

Keys: TypeAlias = tuple[Key, Key | None, int | None]
"""The keys of an entry: of its original tuple; of its reply tuple, unless that is the inverse of
the original tuple; and the id, if it is known."""

_pack_ipv4: Final = Struct("!IIHHB").pack
_pack_ipv6: Final = Struct("!16s16sHHB").pack
_pack_icmp: Final = Struct("!HBB").pack
_pack_zone: Final = Struct("!H").pack


def key_of(tuple_: Tuple, zone: int) -> Key:
    """Return the key of a tuple with plain values in a zone.

    These are the addresses, the ports and the protocol; the fields of ICMP, unless all of them are
    0; and the zone, unless it is 0. No two forms have the same length.
    """
    # Generated functions compute the same: see record_functions.
    key = _key_of_ends(tuple_.src, tuple_.dst, tuple_.sport, tuple_.dport, tuple_.proto)
    if tuple_.icmp_id or tuple_.icmp_type or tuple_.icmp_code:
        key += _pack_icmp(tuple_.icmp_id or 0, tuple_.icmp_type or 0, tuple_.icmp_code or 0)
    return key + _pack_zone(zone) if zone else key


def inverse_key_of(tuple_: Tuple, zone: int) -> Key | None:
    """Return the key of the inverse of a tuple; ``None`` if there is no inverse.

    It is :func:`key_of` for :attr:`.Tuple.inverse`, without creating that.
    """
    key = _key_of_ends(tuple_.dst, tuple_.src, tuple_.dport, tuple_.sport, tuple_.proto)
    inverse = inverse_icmp_type(tuple_.proto, tuple_.icmp_type)
    if inverse is None and tuple_.icmp_type is not None:
        return None
    if tuple_.icmp_id or inverse or tuple_.icmp_code:
        key += _pack_icmp(tuple_.icmp_id or 0, inverse or 0, tuple_.icmp_code or 0)
    return key + _pack_zone(zone) if zone else key


def _key_of_ends(
    src: IPAddress, dst: IPAddress, sport: int | None, dport: int | None, proto: int
) -> Key:
    if type(src) is IPv4Address:
        # int() would take twice as long.
        return _pack_ipv4(src.__int__(), dst.__int__(), sport or 0, dport or 0, proto)
    return _pack_ipv6(src.packed, dst.packed, sport or 0, dport or 0, proto)


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


def orig_key(flow: Flow) -> Key:
    """Return the key of a flow's original tuple. No two entries of a namespace share it.

    The kernel refuses a new entry if an existing one has the same original tuple in the same zone
    of that direction (``nf_ct_key_equal``). The same holds for reply tuples. But the original tuple
    of one entry may be the reply tuple of another if a zone applies to one direction only. An entry
    of a resolved clash (``IPS_NAT_CLASH``) has the original tuple of another entry; no dump
    contains it.
    """
    orig = flow.orig
    return key_of(orig, (flow.zone if orig.zone is None else orig.zone) or 0)


def reply_key(flow: Flow) -> Key:
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
