"""Write labels by their names in ``connlabel.conf``, and by number if they have none there."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from .output import report

_IN_LINE: Final = re.compile(r"(?<!\S)labels=([0-9]+(?:,[0-9]+)*)(?!\S)")
"""The labels in the line of a flow, which has them by number."""

_PLAIN: Final = re.compile(r"[^\s,]+")
"""A name that does not end early in a line of words. A label with another name has its number."""


class LabelTexts:
    """The texts of labels. The file with their names is read when the first label is written."""

    def __init__(self) -> None:
        self._names: dict[int, str] | None = None
        self._text_of_numbers = lru_cache(1024)(self._names_of_numbers)

    def text(self, labels: int) -> str:
        """Return the labels of a bitmap: ``web,5``; empty text for none."""
        bits = [bit for bit in range(labels.bit_length()) if labels >> bit & 1]
        return self._text_of(bits)

    def in_lines(self, lines: str) -> str:
        """Return lines of flows with names in the place of the numbers of labels."""
        if "labels=" not in lines:
            return lines
        return _IN_LINE.sub(lambda found: f"labels={self._text_of_numbers(found[1])}", lines)

    def _names_of_numbers(self, numbers: str) -> str:
        return self._text_of([int(number) for number in numbers.split(",")])

    def _text_of(self, bits: list[int]) -> str:
        if self._names is None:
            self._names = _read_names() if bits else None
        names = self._names or {}
        return ",".join([names.get(bit) or str(bit) for bit in bits])


def _read_names() -> dict[int, str]:
    """Return the names of labels by their bits. Report a file that cannot be read."""
    from ..errors import EncodeError
    from ..model.labels import BITS, LabelNames

    try:
        labels = LabelNames.read().names((1 << BITS) - 1)
    except EncodeError as error:
        report(f"labels are printed by number: {error.reason}")
        return {}
    return {
        bit: label
        for bit, label in enumerate(labels)
        if isinstance(label, str) and label.isprintable() and _PLAIN.fullmatch(label)
    }
