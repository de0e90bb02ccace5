"""Write objects of the model as lines of JSON or text."""

from __future__ import annotations

import json
from collections.abc import Iterable

from ..model.lazy_fields import text_if_unread
from .json import to_dict
from .object_json import line_of


def to_json(obj: object, *, indent: int | None = None) -> str:
    """Return an object of the model as JSON text: :func:`to_dict` as text.

    The text is ASCII. Without ``indent`` it is a single line, as JSON Lines need it.

    :param obj: the object, such as a :class:`Flow`.
    :param indent: the spaces by which each level is indented.

    :raises EncodeError: when a field cannot hold its value; the error has the path of fields.
    :raises TypeError: when ``obj`` is not an object of the model.
    """
    if indent is not None:
        return json.dumps(to_dict(obj), indent=indent)
    return _line(obj)


def _line(obj: object) -> str:
    try:
        line = line_of(obj)
    except Exception:
        line = None  # the reference raises the proper error
    return json.dumps(to_dict(obj)) if line is None else line


def json_lines(objects: Iterable[object]) -> str:
    r"""Return objects of the model as JSON Lines: :func:`to_json` of each, and a newline after it.

    This is the fastest way to write many flows or events: pass it the lists of
    :meth:`Dump.batches` or :meth:`EventStream.batches`.

    :param objects: the objects, such as a list of :class:`Flow` objects.

    :raises EncodeError: when a field cannot hold its value; the error has the path of fields.
    :raises TypeError: when an object is not one of the model.
    """
    lines = [*map(_line, objects), ""]
    return "\n".join(lines)


def text_lines(objects: Iterable[object]) -> str:
    r"""Return the text of objects: :class:`str` of each, and a newline after it.

    :param objects: the objects, such as a list of :class:`Flow` or :class:`FlowEvent` objects.
    """
    lines = [text_if_unread(obj) or str(obj) for obj in objects]
    lines.append("")
    return "\n".join(lines)
