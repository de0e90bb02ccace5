"""What packers and the functions that compile them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

SEQ: Final = 8
"""The offset of the sequence number in a message."""

Pack = Callable[..., bytes | None]
"""A packer. Its result is ``None`` if the request has another shape."""


class RequestValue(NamedTuple):
    """A value that a request depends on, and the attribute that it is written to."""

    path: str
    """The argument and the fields that lead to the value, such as ``flow.orig``."""
    value: object
    """The value in this request."""
    cls: type
    """The class that declares the attribute."""
    field: str
    """The field of that class."""
    computed: bool = False
    """Whether the attribute is computed from the value, by rules that the reference knows."""


class UnsupportedShape(Exception):
    """No packer can be compiled for the request."""
