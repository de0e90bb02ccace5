"""The raw values that a generated function unpacks from the bytes of a message."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from ..function_builder import Expression, FunctionBuilder


class _RawValue(NamedTuple):
    """What :mod:`struct` unpacks for one value, and the variable that it goes into."""

    format: str
    size: int
    variable: Expression


class RawValues:
    """Collects which values a function unpacks, while it is written."""

    def __init__(self, builder: FunctionBuilder) -> None:
        self._builder = builder
        self._raw: dict[int, _RawValue] = {}
        """The raw values, by their offsets."""

    @property
    def variables(self) -> list[Expression]:
        """The variables of the raw values, in the order in which :meth:`struct` unpacks them."""
        return [value.variable for _, value in sorted(self._raw.items())]

    def unpack(self, start: int, size: int, format: str | None = None) -> Expression:
        """Return the raw value at an offset; without a format, its bytes."""
        known = self._raw.get(start)
        if known is None:
            variable = self._builder.local("raw")
            known = self._raw[start] = _RawValue(format or f"{size}s", size, variable)
        return known.variable

    def struct(self, start: int, end: int) -> Struct:
        """Return what unpacks the raw values from these bytes of a message."""
        parts, at = ["!"], start
        for start, raw in sorted(self._raw.items()):
            parts += [f"{start - at}x", raw.format]
            at = start + raw.size
        return Struct("".join([*parts, f"{end - at}x"]))
