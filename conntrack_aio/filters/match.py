"""A condition on flows: a plain predicate, and what other forms are compiled from."""

from __future__ import annotations

from socket import AF_INET, AF_INET6

import attrs

from ..model.flow import Flow

_U32 = 0xFFFFFFFF
_VERSIONS: dict[int, int] = {AF_INET: 4, AF_INET6: 6}


@attrs.frozen(kw_only=True)
class Match:
    """Flows of one family, of one mark, or both; ``Match()`` is every flow.

    An immutable value, which works as a predicate: ``match(flow)``. A flow whose mark is not told
    matches no mark: in events, that is one without a mark.

    Raises :exc:`ValueError` for a match that is never true by mistake: a mark outside its mask, a
    mask without a mark, a number that is not of 32 bits, a family that is not tracked; and
    :exc:`TypeError` for what is no number.
    """

    mark: int | None = None
    mark_mask: int | None = None
    """Which bits of the mark count; all, if it is ``None``."""
    family: int | None = None
    """``socket.AF_INET`` or ``socket.AF_INET6``."""

    def __attrs_post_init__(self) -> None:
        for name in ("mark", "mark_mask"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
                raise TypeError(f"{name} is a number, not {value!r}")
            if value is not None and not 0 <= value <= _U32:
                raise ValueError(f"{name} {value} is not of 32 bits")
        if self.mark is None and self.mark_mask is not None:
            raise ValueError("mark_mask says which bits of a mark count, and there is no mark")
        if self.mark is not None and self.mark & ~int(self.mask):
            raise ValueError(
                f"never true: mark {self.mark:#x} has bits outside mark_mask {self.mask:#x}"
            )
        if self.family is not None and self.family not in _VERSIONS:
            raise ValueError(f"family {self.family} is neither AF_INET nor AF_INET6")

    @property
    def mask(self) -> int:
        """:attr:`mark_mask`, or all the bits."""
        return _U32 if self.mark_mask is None else self.mark_mask

    @property
    def always(self) -> bool:
        """Whether every flow matches."""
        return (self.mark is None or self.mask == 0) and self.family is None

    def __call__(self, flow: Flow) -> bool:
        if self.family is not None and flow.orig.src.version != _VERSIONS[self.family]:
            return False
        if self.mark is None or self.mask == 0:
            return True
        return flow.mark is not None and flow.mark & self.mask == self.mark
