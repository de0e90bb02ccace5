"""How the kernel reads the attributes of a request (``__nla_validate_parse``).

Most of ctnetlink is read the liberal way: what is not known is ignored, what is too long is taken,
what is left over at the end is warned of at most, and of repeated attributes the last counts. The
inside of ``CTA_FILTER`` is read strictly.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Final, NamedTuple

import attrs

from ..netlink.attributes import HEADER
from ..uapi.netlink import NLA_F_NESTED, NLA_TYPE_MASK

WARNING: Final = "bytes leftover after parsing attributes"
_FAILED: Final = "Attribute failed policy validation"


class Refused(Exception):
    """The kernel does not carry a request out: ``errno``, and what the extended ack says."""

    def __init__(self, errno: int, detail: str | None = None, offset: int | None = None) -> None:
        super().__init__(errno, detail)
        self.errno = errno
        self.detail = detail
        self.offset = offset
        """Where the attribute stands, counted from the first attribute of the request."""


@attrs.frozen
class Rule:
    """What a policy says of an attribute (``struct nla_policy``)."""

    least: int = 0
    """Bytes that it must have at least."""
    most: int | None = None
    nest: bool = False
    """Attributes: empty, or room for one."""
    text: bool = False
    """A string with its NUL, of ``most`` bytes without."""
    highest: int | None = None
    """Of a number of one byte."""
    rejected: bool = False


U8: Final = Rule(1)
U16: Final = Rule(2)
U32: Final = Rule(4)
ADDRESS6: Final = Rule(16)
NEST: Final = Rule(nest=True)
REJECTED: Final = Rule(rejected=True)

Policy = Mapping[int, Rule]


class Parsed(NamedTuple):
    """The attributes by number, and what the kernel warns of."""

    attributes: dict[int, bytes]
    nested: frozenset[int]
    """Those that bore ``NLA_F_NESTED``."""
    warning: str | None


def parse(data: bytes, last: int, policy: Policy, *, strict: bool = False) -> Parsed:
    """Read what stands in a message behind its header, or in a nest.

    ``last`` is the highest number that this kernel knows. Raises :exc:`Refused`, with the offset
    of the attribute counted from the first.
    """
    attributes: dict[int, bytes] = {}
    nested: set[int] = set()
    start = 0
    while len(data) - start >= HEADER.size:
        length, kind = HEADER.unpack_from(data, start)
        if length < HEADER.size or length > len(data) - start:
            break
        number = kind & NLA_TYPE_MASK
        payload = data[start + HEADER.size : start + length]
        if 0 < number <= last:
            rule = policy.get(number, Rule())
            if strict and (kind & NLA_F_NESTED or len(payload) != rule.least):
                raise Refused(errno.EINVAL, "invalid attribute length", start)
            _validate(payload, rule, start)
            attributes[number] = payload
            (nested.add if kind & NLA_F_NESTED else nested.discard)(number)
        elif strict:
            raise Refused(errno.EINVAL, "Unknown attribute type", start)
        start += (length + 3) & ~3
    leftover = start < len(data)
    if leftover and strict:
        raise Refused(errno.EINVAL, WARNING)
    return Parsed(attributes, frozenset(nested), WARNING if leftover else None)


def parse_nest(data: bytes, last: int, policy: Policy, *, strict: bool = False) -> dict[int, bytes]:
    """Read a nest. Its errors have no words: the kernel passes no extended ack down."""
    try:
        return parse(data, last, policy, strict=strict).attributes
    except Refused as refused:
        raise Refused(refused.errno) from None


def _validate(payload: bytes, rule: Rule, offset: int) -> None:
    size = len(payload)
    if rule.rejected:
        raise Refused(errno.EINVAL, _FAILED, offset)
    if rule.text:
        _validate_text(payload, rule, offset)
    elif rule.nest:
        if 0 < size < HEADER.size:
            raise Refused(errno.ERANGE, _FAILED, offset)
    elif size < rule.least or (rule.most is not None and size > rule.most):
        raise Refused(errno.ERANGE, _FAILED, offset)
    elif rule.highest is not None and payload[0] > rule.highest:
        raise Refused(errno.ERANGE, "integer out of range", offset)


def _validate_text(payload: bytes, rule: Rule, offset: int) -> None:
    """``NLA_NUL_STRING``: the NUL must come in time; behind it there may be one more at most."""
    most = rule.most
    if b"\0" not in payload[: None if most is None else most + 1]:
        raise Refused(errno.EINVAL, _FAILED, offset)
    if most is not None and len(payload.removesuffix(b"\0")) > most:
        raise Refused(errno.ERANGE, _FAILED, offset)


def number(payload: bytes) -> int:
    """An integer in network byte order. What is too long counts from its start."""
    return int.from_bytes(payload, "big")


def u32(payload: bytes) -> int:
    return number(payload[:4])


def u16(payload: bytes) -> int:
    return number(payload[:2])


def text(payload: bytes) -> str:
    return payload.split(b"\0", 1)[0].decode(errors="surrogateescape")
