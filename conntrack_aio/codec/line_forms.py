"""Write many objects as lines of a form that another module defines.

The form writes an object from its fields, and compiles functions that write an object of which
nothing was read from its message (:mod:`.message_lines`). Both must write the same line.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol, TypeVar

from ..model.lazy_fields import FieldReader, WriteLine, unread_classes
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
    lines: list[str] = []
    reader: FieldReader | None = None
    write: WriteLine = _by_fields
    obj: Any
    for obj in objects:
        line = None
        # Another thread may have read the object, and removed its message, in the meantime.
        if type(obj) in unread_classes and (message := obj._message) is not None:
            if obj._reader is not reader:
                reader = obj._reader
                write = obj._reader.line_writers[form]
            line = write(obj, message)
        lines.append(form.write(obj) if line is None else line)
    return lines


def _by_fields(obj: object, message: bytes) -> None:
    """Leave the line to be written from the fields of the object."""
