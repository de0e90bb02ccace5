"""Functions compiled from generated source."""

from __future__ import annotations

import gc
import linecache
import traceback

import pytest

from conntrack_aio.generated import compile_function

SOURCE = "def divide(number):\n    return number / zero\n"


def test_a_traceback_shows_the_generated_line() -> None:
    divide = compile_function("divide", SOURCE, {"zero": 0}, "test")
    with pytest.raises(ZeroDivisionError) as raised:
        divide(1)
    assert "return number / zero" in "".join(traceback.format_exception(raised.value))


def test_the_source_is_forgotten_with_the_function() -> None:
    divide = compile_function("divide", SOURCE, {"zero": 1}, "test")
    name = divide.__code__.co_filename
    assert name in linecache.cache
    del divide
    gc.collect()
    assert name not in linecache.cache


def test_names_are_its_globals() -> None:
    names: dict[str, object] = {"zero": 4}
    divide = compile_function("divide", SOURCE, names, "test")
    assert divide.__globals__ is names
    assert "divide" not in names
