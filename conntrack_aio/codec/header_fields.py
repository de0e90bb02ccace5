"""The fields of an object whose values are in the headers of its message."""

from __future__ import annotations

from typing import NamedTuple

from .scalars import Scalar


class HeaderField(NamedTuple):
    """A field whose value is in the message's headers, ``offset`` bytes from its start."""

    offset: int
    scalar: Scalar
