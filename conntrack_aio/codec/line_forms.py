"""Write many objects as lines of a form that another module defines.

The form writes an object from its fields, and compiles functions that write an object of which
nothing was read from its message (:mod:`.message_lines`). Both must write the same line.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol, TypeVar

from ..model.lazy_fields import WriteLine, unread_classes
from .lazy_objects import LazyObject

T_contra = TypeVar("T_contra", contravariant=True)


class LineForm(Hashable, Protocol[T_contra]):
    """A form of lines. Equal forms share the compiled functions."""

    def compile(self, obj: LazyObject) -> WriteLine:
        """Return the function that writes an object, from messages of one skeleton."""
        ...

    def write(self, obj: T_contra) -> str:
        """Return the line of an object, from its fields."""
        ...


def lines_of(objects: Sequence[T_contra], form: LineForm[T_contra]) -> list[str]:
    """Return the lines of objects, without their newlines.

    :param objects: the objects, such as a list of :class:`Flow` objects.
    :param form: the form of the lines.
    """
    return [_written(obj, form) or form.write(obj) for obj in objects]


def _written(obj: Any, form: LineForm[Any]) -> str | None:
    """Return the line of an object, written from its message, if nothing of it was read."""
    if type(obj) not in unread_classes:
        return None
    message = obj._message
    if message is None:  # another thread has read it
        return None
    line: str | None = obj._reader.line_writers[form](obj, message)
    return line
