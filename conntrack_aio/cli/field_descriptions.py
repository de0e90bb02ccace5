"""Read what the classes of the model document about their fields.

The descriptions stand below the fields in the source, where Python does not keep them.
"""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from typing import Final

_ROLE: Final = re.compile(r":\w+:`[~.]?([^`<]*?)`")
_LITERAL: Final = re.compile(r"``(.*?)``|\*\*(.*?)\*\*")


@cache
def field_descriptions(cls: type) -> dict[str, str]:
    """Return the description of each documented field of a class, and of its bases.

    :param cls: the class.
    :returns: plain text on one line, by the name of the field; empty if the source is missing.
    """
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__[:-1]):
        try:
            tree = ast.parse(inspect.getsource(each))
        except (OSError, TypeError):
            continue
        (declared,) = tree.body
        assert isinstance(declared, ast.ClassDef)
        for field, following in zip(declared.body, declared.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
                and isinstance(following.value.value, str)
            ):
                found[field.target.id] = _plain(following.value.value)
    return found


def _plain(text: str) -> str:
    """Return a description without markup and line breaks."""
    text = _ROLE.sub(lambda role: role[1].rsplit(".", 1)[-1], text)
    text = _LITERAL.sub(lambda marked: marked[1] or marked[2], text)
    return " ".join(text.split())
