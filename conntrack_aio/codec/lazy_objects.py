"""Objects with lazy fields, and where their values are in the messages of one skeleton."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .header_fields import HeaderField
from .schema import Schema
from .skeleton import Survey


class LazyObject(NamedTuple):
    """An object with lazy fields in the messages of one skeleton."""

    surveyed: Survey
    """The survey of a message, with offsets from its first header on."""
    schema: Schema[object]
    """The schema of the object."""
    offset: int
    """The first of the object's slots among the message's."""
    header_values: Mapping[str, object]
    """The values of the object's fields that follow from the type and the flags."""
    header_fields: Mapping[str, HeaderField]
    """The fields of the message's own object whose values are in the headers."""
    start: int
    """The first byte of the message that the object keeps."""
    end: int
    """The byte after the last one that the object keeps."""
