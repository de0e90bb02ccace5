"""Print names with their values and descriptions."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from shutil import get_terminal_size
from typing import Final

from .output import write_line
from .terminal import is_terminal

_LEAST_TEXT: Final = 30
"""The width from which on a description is beside its value; otherwise it is left out."""


def write_described(items: Sequence[tuple[str, str, str]], *, describe: bool = True) -> None:
    """Print a line for each name with its value, as aligned text.

    A description follows in the same line. At a terminal it is wrapped beside the value.

    :param items: the name, the value and the description of each.
    :param describe: whether to print descriptions.
    """
    names = max((len(name) for name, _, _ in items), default=0)
    values = max((len(value) for _, value, _ in items), default=0)
    start = names + 2 + values + 2
    width = get_terminal_size().columns - start if is_terminal() else None
    for name, value, text in items:
        line = f"{name:<{names}}  {value:<{values}}"
        lines = [text] if describe and text else []
        if width is not None and lines:
            lines = textwrap.wrap(text, width) if width >= _LEAST_TEXT else []
        first, *more = lines or [""]
        write_line(f"{line}  {first}".rstrip())
        for each in more:
            write_line(" " * start + each)
