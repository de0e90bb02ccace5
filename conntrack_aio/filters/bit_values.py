"""Convert marks, status bits and labels, as objects or text, to conditions.

A value of several bits means that all of them are set. Several values mean that one of them holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, cast

from ..errors import EncodeError, MatchError
from ..model.enums import Status
from ..model.labels import Label, LabelNames
from ..plain import as_int, as_str, describe_value
from ..suggestions import suggestion
from .arguments import NUMBER, parse_digits, parse_integer, parse_items
from .fields import LABEL, MARK, STATUS, BitsField
from .memberships import simplify_atom
from .nodes import FALSE, Bits, Node
from .tree import all_of, any_of, negate

MaskedNumber = int | str
"""A number whose bits are compared, or its text. Text can have a mask: ``"0x3/0xff"``."""

TRANSLATIONS: Final[Mapping[str, tuple[str, str, str]]] = MappingProxyType(
    {
        "snat": ("src_nat", "reply.dst", "reply.dport"),
        "dnat": ("dst_nat", "reply.src", "reply.sport"),
    }
)
"""The status bit of each kind of translation, and the fields with the translated address and
port."""

UNREPLIED: Final = "unreplied"
"""The name of a status without the bit ``seen_reply``, as flows are printed."""

STATUS_KEYWORDS: Final = MappingProxyType(
    {text: name for name in ("assured", UNREPLIED) for text in (name, f"[{name.upper()}]")}
)
"""The texts that are a condition on the status by themselves, each with the name of its status."""


# -- marks --------------------------------------------------------------------------------------

_ACCEPTED_MARKS: Final = (
    "a number, its text with or without a mask, as 0x3/0xff, or a list of these"
)


def mark_condition(
    given: MaskedNumber | Iterable[MaskedNumber], mask: MaskedNumber | None = None
) -> Node:
    """Return the condition that the mark is one of the given values.

    :param given: one value, or an iterable of values.
    :param mask: the bits of the mark to compare, instead of all.

    :raises MatchError: when a value is not a mark, or has bits outside its mask.
    :raises TypeError: when the value is neither a number nor an iterable of numbers.
    """
    items = cast("list[MaskedNumber]", parse_items("mark", _ACCEPTED_MARKS, given))
    return any_of(parse_mark(item, mask) for item in items)


def parse_mark(value: MaskedNumber, mask: MaskedNumber | None = None) -> Node:
    """Return the condition that the mark has one value.

    :param value: the value, which may be text with a mask.
    :param mask: the bits of the mark to compare, instead of all.

    :raises MatchError: when the value is not a mark, or has bits outside its mask.
    :raises TypeError: when the value is not a number.
    """
    return _parse_masked(MARK, value, mask)


def _parse_masked(field: BitsField, value: MaskedNumber, mask: MaskedNumber | None) -> Node:
    name = "labels" if field is LABEL else "mark"
    if isinstance(value, str):
        text = as_str(value)
        value_text, slash, mask_text = text.partition("/")
        if slash and mask is not None:
            raise MatchError(
                f"give the mask of {describe_value(text)} in the text or as {name}_mask, not twice"
            )
        try:
            value, mask = parse_digits(value_text), parse_digits(mask_text) if slash else mask
        except ValueError:
            raise MatchError(
                f"{name} must be a number, or a number and a mask such as 0x3/0xff; "
                f"got {describe_value(text)}"
            ) from None
    full = (1 << field.width) - 1
    value = parse_integer(name, _ACCEPTED_MARKS, value)
    mask = full if mask is None else _parse_mask(f"{name}_mask", mask)
    for parameter, number in ((name, value), (f"{name}_mask", mask)):
        if not 0 <= number <= full:
            raise MatchError(
                f"{parameter} must be an unsigned number of {field.width} bits; "
                f"got {describe_value(number)}"
            )
    if value & ~mask:
        raise MatchError(f"never true: {name} {value:#x} has bits outside its mask {mask:#x}")
    return simplify_atom(Bits(field, mask, value))


def _parse_mask(name: str, mask: MaskedNumber) -> int:
    if isinstance(mask, str):
        try:
            return parse_digits(as_str(mask))
        except ValueError:
            raise MatchError(f"{name} must be a number; got {describe_value(mask)}") from None
    return parse_integer(name, "a number or its text, as 0xff", mask)


def bit_condition(field: BitsField, number: int) -> Node:
    """Return the condition that one bit is set.

    :param field: the field with the bit.
    :param number: the position of the bit, from 0.
    """
    return Bits(field, 1 << number, 1 << number)


# -- status -------------------------------------------------------------------------------------

_ACCEPTED_STATUS: Final = (
    "bits of Status, their names as in 'assured|seen_reply', or a list of these"
)


def status_condition(
    name: str, given: Status | int | str | Iterable[Status | int | str], *, unset: bool = False
) -> Node:
    """Return the condition for a parameter about the status: one of the given values holds.

    :param name: the name of the parameter, for error messages.
    :param given: one value, or an iterable of values.
    :param unset: a value holds if none of its bits is set, instead of if all of them are.

    :raises MatchError: when a name is unknown, or when a number is 0 or too large.
    :raises TypeError: when the value is neither bits nor an iterable of these.
    """
    items = parse_items(name, _ACCEPTED_STATUS, given)
    return any_of([_parse_status_item(name, item, unset) for item in items])


def parse_status(text: str) -> Node:
    """Return the condition that all bits of a status are set.

    :param text: names of bits with ``|`` between them, or the number that has these bits.

    :raises MatchError: when a name is unknown, and when a number is 0 or too large.
    """
    return all_of(_parse_status_text("status", text))


def _parse_status_item(name: str, item: object, unset: bool) -> Node:
    if isinstance(item, str):
        bits = _parse_status_text(name, as_str(item))
    else:
        bits = _status_bits(name, parse_integer(name, _ACCEPTED_STATUS, item))
    return all_of(map(negate, bits) if unset else bits)


def _parse_status_text(name: str, text: str) -> list[Node]:
    """Return a condition for each bit of a text."""
    if NUMBER.fullmatch(text):
        return _status_bits(name, parse_digits(text))
    return [_parse_status_name(part) for part in text.split("|")]


def _status_bits(name: str, number: int) -> list[Node]:
    """Return a condition for each bit of a number.

    :raises MatchError: when the number is 0, or cannot be a status.
    """
    if not 0 <= number < 1 << STATUS.width:
        raise MatchError(
            f"{name} must be an unsigned number of {STATUS.width} bits; "
            f"got {describe_value(number)}"
        )
    if not number:
        raise MatchError(
            f"{name} 0 has no bits and would match nothing; "
            "to match flows without some bits, use status_unset"
        )
    return [bit_condition(STATUS, at) for at in range(number.bit_length()) if number >> at & 1]


def _parse_status_name(text: str) -> Node:
    """Return the condition that a bit is set; for ``unreplied``, that SEEN_REPLY is not set."""
    name = text.strip().lower()
    if name in STATUS.names:
        return bit_condition(STATUS, STATUS.names[name])
    if name == UNREPLIED:
        return negate(bit_condition(STATUS, STATUS.names["seen_reply"]))
    known = (*STATUS.names, UNREPLIED)
    hint = suggestion(name, known) or f"; expected {', '.join(known)}"
    raise MatchError(f"unknown status bit {describe_value(text)}{hint}")


# -- labels -------------------------------------------------------------------------------------

_ACCEPTED_LABELS: Final = "labels by bit or by name, or a list of these"


class LabelBits:
    """The bits of named labels. The names of the system are read only if a name is looked up."""

    def __init__(self, names: LabelNames | None) -> None:
        """Use the given names, or else the system's ``connlabel.conf``.

        :raises TypeError: when the names are not :class:`LabelNames`.
        """
        if not isinstance(names, LabelNames | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"label_names must be LabelNames(…); got {describe_value(names)}")
        self._names = names

    def bit(self, label: Label) -> int:
        """Return the bit of a label.

        :raises MatchError: when the label is unknown, and when ``connlabel.conf`` cannot be read.
        """
        try:
            if self._names is None:
                if not isinstance(label, str):
                    return LabelNames().bit(label)
                self._names = LabelNames.read()
            return self._names.bit(label)
        except EncodeError as error:
            raise MatchError(error.reason) from None


def labels_condition(
    given: Label | Iterable[Label], mask: MaskedNumber | None, bits: LabelBits
) -> Node:
    """Return the condition for ``labels``: one of them is set.

    With a mask, ``given`` is a number, and the bits of the labels that are in the mask equal it.

    :raises MatchError: when a label is unknown, when there is a mask but not one number, or when
        that number has bits outside its mask.
    :raises TypeError: when the value is neither a label nor an iterable of labels.
    """
    if mask is None:
        return any_of(_parse_labels("labels", given, bits))
    items = parse_items("labels", _ACCEPTED_LABELS, given)
    if len(items) != 1:
        raise MatchError("labels must be one number of 128 bits if labels_mask is given")
    return _parse_masked(LABEL, cast("Label", items[0]), mask)


def labels_all_condition(given: Label | Iterable[Label], bits: LabelBits) -> Node:
    """Return the condition for ``labels_all``: each of them is set; without any, nothing matches.

    :raises MatchError: when a label is unknown.
    :raises TypeError: when the value is neither a label nor an iterable of labels.
    """
    found = _parse_labels("labels_all", given, bits)
    return all_of(found) if found else FALSE


def _parse_labels(name: str, given: Label | Iterable[Label], bits: LabelBits) -> list[Node]:
    items = cast("list[Label]", parse_items(name, _ACCEPTED_LABELS, given))
    return [parse_label(item, bits) for item in items]


def parse_label(given: Label, bits: LabelBits) -> Node:
    """Return the condition that a label is set.

    For text with a mask, such as ``0x3/0xff``, return the condition that the bits in the mask have
    the value.

    :raises MatchError: when the label is unknown, and when a value has bits outside its mask.
    """
    if isinstance(given, str):
        given = as_str(given)
        value, slash, mask = given.partition("/")
        if NUMBER.fullmatch(value) and (not slash or NUMBER.fullmatch(mask)):
            if slash:
                return _parse_masked(LABEL, given, None)
            given = parse_digits(given)
    if isinstance(given, int) and LABEL.width <= as_int(given) < 1 << LABEL.width:
        raise MatchError(
            f"a label must be a bit from 0 to 127 or a name; got {as_int(given)}; "
            "to compare the value of all labels, add a mask: "
            f"{as_int(given):#x}/{(1 << LABEL.width) - 1:#x}, or labels_mask"
        )
    return bit_condition(LABEL, bits.bit(given))
