"""Compile functions from generated source, so that tracebacks and debuggers show that source.

Generated source contains names and numbers that come from declarations alone. Every value that a
user or a message brings is bound to a name in ``names``: it never becomes source text.
"""

from __future__ import annotations

import linecache
import weakref
from collections.abc import Callable
from itertools import count
from typing import Any, Final

_numbers: Final = count(1)
"""Every function gets a file name of its own."""


def compile_function(
    name: str, source: str, names: dict[str, object], about: str
) -> Callable[..., Any]:
    """Execute ``source``, which defines the function ``name``, and return that function.

    The source is registered with :mod:`linecache` for as long as the function lives.

    :param names: what the source refers to; it becomes the function's global names.
    :param about: what the function is for, as a part of its file name in tracebacks.
    """
    file_name = f"<conntrack_aio {about} {next(_numbers)}>"
    exec(compile(source, file_name, "exec"), names)
    function = names.pop(name)
    assert callable(function)
    # Without a modification time, linecache never looks for a file of that name.
    linecache.cache[file_name] = (len(source), None, source.splitlines(keepends=True), file_name)
    weakref.finalize(function, linecache.cache.pop, file_name, None).atexit = False
    return function
