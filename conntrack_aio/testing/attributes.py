"""Parse and validate the attributes of a request as the kernel does (``__nla_validate_parse``).

Most of ctnetlink is parsed liberally (``NL_VALIDATE_LIBERAL``):

- Attributes with unknown numbers are ignored.
- Attributes that are too long are accepted.
- Of repeated attributes the last one counts.
- Bytes left over at the end cause a warning at most.

The inside of ``CTA_FILTER`` is parsed strictly.
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
    """The kernel refuses a request.

    :param errno: the code of the acknowledgement.
    :param detail: the message of the extended acknowledgement.
    :param offset: bytes from the first attribute of the request to the offending attribute.
    """

    def __init__(self, errno: int, detail: str | None = None, offset: int | None = None) -> None:
        super().__init__(errno, detail)
        self.errno = errno
        self.detail = detail
        self.offset = offset
        """Bytes from the first attribute of the request to the offending attribute."""


@attrs.frozen
class AttributeRule:
    """The validation of one attribute (``struct nla_policy``)."""

    min_length: int = 0
    """The shortest valid payload, in bytes."""
    max_length: int | None = None
    """The longest valid payload, in bytes."""
    nested: bool = False
    """Whether the payload is a nest: empty, or long enough for an attribute header."""
    text: bool = False
    """Whether the payload is a string with a NUL; ``max_length`` does not count the NUL."""
    max_value: int | None = None
    """The highest valid value of a one-byte number."""
    rejected: bool = False
    """Whether the kernel refuses every request with this attribute (``NLA_REJECT``)."""


U8: Final = AttributeRule(1)
U16: Final = AttributeRule(2)
U32: Final = AttributeRule(4)
ADDRESS6: Final = AttributeRule(16)
NEST: Final = AttributeRule(nested=True)
REJECTED: Final = AttributeRule(rejected=True)

Policy = Mapping[int, AttributeRule]


class Parsed(NamedTuple):
    """The attributes of a message or nest."""

    attributes: dict[int, bytes]
    """The payloads, by attribute number."""
    nested: frozenset[int]
    """The numbers of the attributes that have ``NLA_F_NESTED``."""
    warning: str | None
    """The warning of the extended acknowledgement."""


def parse(data: bytes, last: int, policy: Policy, *, strict: bool = False) -> Parsed:
    """Parse the attributes of a message or of a nest.

    :param data: the attributes, without the headers before them.
    :param last: the highest attribute number that this kernel knows.
    :param policy: the validation of each attribute, by number.
    :param strict: refuse unknown attributes, trailing bytes and other lengths than the policy's.

    :raises Refused: when an attribute is invalid. Its offset counts from the first attribute.
    """
    attributes: dict[int, bytes] = {}
    nested: set[int] = set()
    start = 0
    while len(data) - start >= HEADER.size:
        length, type_ = HEADER.unpack_from(data, start)
        if length < HEADER.size or length > len(data) - start:
            break
        number = type_ & NLA_TYPE_MASK
        payload = data[start + HEADER.size : start + length]
        if 0 < number <= last:
            rule = policy.get(number, AttributeRule())
            if strict and (type_ & NLA_F_NESTED or len(payload) != rule.min_length):
                raise Refused(errno.EINVAL, "invalid attribute length", start)
            _validate(payload, rule, start)
            attributes[number] = payload
            (nested.add if type_ & NLA_F_NESTED else nested.discard)(number)
        elif strict:
            raise Refused(errno.EINVAL, "Unknown attribute type", start)
        start += (length + 3) & ~3
    leftover = start < len(data)
    if leftover and strict:
        raise Refused(errno.EINVAL, WARNING)
    return Parsed(attributes, frozenset(nested), WARNING if leftover else None)


def parse_nest(data: bytes, last: int, policy: Policy, *, strict: bool = False) -> dict[int, bytes]:
    """Parse a nest as :func:`parse` does, with errors that have no detail.

    The kernel passes no extended acknowledgement to ``nla_parse_nested`` here.

    :raises Refused: when an attribute is invalid.
    """
    try:
        return parse(data, last, policy, strict=strict).attributes
    except Refused as refused:
        raise Refused(refused.errno) from None


def _validate(payload: bytes, rule: AttributeRule, offset: int) -> None:
    size = len(payload)
    if rule.rejected:
        raise Refused(errno.EINVAL, _FAILED, offset)
    if rule.text:
        _validate_text(payload, rule, offset)
    elif rule.nested:
        if 0 < size < HEADER.size:
            raise Refused(errno.ERANGE, _FAILED, offset)
    elif size < rule.min_length or (rule.max_length is not None and size > rule.max_length):
        raise Refused(errno.ERANGE, _FAILED, offset)
    elif rule.max_value is not None and payload[0] > rule.max_value:
        raise Refused(errno.ERANGE, "integer out of range", offset)


def _validate_text(payload: bytes, rule: AttributeRule, offset: int) -> None:
    """Validate an ``NLA_NUL_STRING``, whose NUL must be within ``max_length`` + 1 bytes.

    The kernel ignores one trailing NUL when it compares the length.
    """
    longest = rule.max_length
    if b"\0" not in payload[: None if longest is None else longest + 1]:
        raise Refused(errno.EINVAL, _FAILED, offset)
    if longest is not None and len(payload.removesuffix(b"\0")) > longest:
        raise Refused(errno.ERANGE, _FAILED, offset)


def number(payload: bytes) -> int:
    """Return an integer in network byte order."""
    return int.from_bytes(payload, "big")


def u32(payload: bytes) -> int:
    """Return a 32-bit integer in network byte order; the kernel ignores further bytes."""
    return number(payload[:4])


def u16(payload: bytes) -> int:
    """Return a 16-bit integer in network byte order; the kernel ignores further bytes."""
    return number(payload[:2])


def text(payload: bytes) -> str:
    """Return the string up to its NUL; bytes that are not UTF-8 become surrogate escapes."""
    return payload.split(b"\0", 1)[0].decode(errors="surrogateescape")
