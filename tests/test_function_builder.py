"""The function builder: names, values, templates, sources and memos."""

from __future__ import annotations

import ast
import gc
import linecache
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import conntrack_aio
from conntrack_aio.function_builder import (
    BoundedMemo,
    Expression,
    Factories,
    FunctionBuilder,
)

INJECTIONS = (
    *("import os", "x; y", "x\ny", "x.y", "x()", "x[0]", "x = 1", "x, y", "x#", "(x", "'x'", '"x"'),
    *("", " ", "1", "1x", "-x", "x y", "\\", "{x}", "lambda", "None", "class", "é x", "x\0"),
)


class Subclass(str):
    """A string that claims to be an identifier."""

    __slots__ = ()

    def isidentifier(self) -> bool:
        return True


def divide_by(zero: int) -> Callable[[int], float]:
    builder = FunctionBuilder("divide", "test")
    number = builder.parameter("number")
    # Templates have no division operator, so this calls the method of int.
    builder.line("return {call}", call=builder.call(int.__truediv__, number, zero))
    return builder.build()


# -- values and names ---------------------------------------------------------------------------


def test_values_are_bound_and_never_text() -> None:
    values = ["os.system", "x", 7, 3.5, b"bytes", ("tuple",), {"dict": 1}, object(), -1, 1 << 70]
    for value in values:
        builder = FunctionBuilder("match", "test")
        found = builder.parameter("found")
        builder.line("return ({found} == {value}, {value})", found=found, value=value)
        assert builder.build()(value) == (True, value)
        constants = [
            n.value for n in ast.walk(ast.parse(builder.source)) if type(n) is ast.Constant
        ]
        assert constants == []
        assert str(value) not in builder.source or str(value) == "x"


def test_a_value_in_every_position_is_bound() -> None:
    for text in INJECTIONS:
        builder = FunctionBuilder("texts", "test")
        first = builder.parameter("first", text)
        second = builder.let("second", "{text}", text=text)
        third = builder.call(str, text)
        operands = builder.join("and", [first, text])
        listed = builder.expression("({each})", each=[first, second, third, operands, text])
        with builder.block("if {text} is not None", text=text):
            builder.line("return {listed}", listed=listed)
        found = builder.build()()
        assert found == (text, text, text, text and text, text)
        assert text.strip() == "" or repr(text) not in builder.source


def test_the_same_object_has_the_same_name() -> None:
    builder = FunctionBuilder("names", "test")
    one, other = [1], [1]
    assert builder.bind(one) is builder.bind(one, "hint")
    assert builder.bind(one).text != builder.bind(other).text
    assert builder.bind(True).text == "True"
    assert builder.bind(1).text != "True"
    assert [builder.bind(each).text for each in (None, True, False)] == ["None", "True", "False"]


def test_bound_objects_live_as_long_as_the_builder() -> None:
    """Otherwise another object could get the id, and the name, of one that is gone."""

    class Value:
        pass

    builder = FunctionBuilder("names", "test")
    names = {builder.bind(Value()).text for _ in range(1000)}
    assert len(names) == 1000


def test_many_values_are_bound_quickly() -> None:
    builder = FunctionBuilder("names", "test")
    values = [object() for _ in range(100_000)]
    names = [builder.bind(value) for value in values]
    assert names == [builder.bind(value) for value in values]


def test_a_bound_class_has_its_name_if_that_is_an_identifier() -> None:
    builder = FunctionBuilder("names", "test")
    assert builder.bind(Path).text == "Path"
    for name in INJECTIONS:
        if "\0" not in name:
            assert builder.bind(type(name, (), {})).text.isidentifier()


def test_names_are_unique() -> None:
    builder = FunctionBuilder("names", "test")
    names = [builder.parameter("c"), builder.parameter("c1"), builder.local("names")]
    names += [builder.bind(object()) for _ in range(3)]
    names += [builder.local(hint) for hint in ("c", "c1", "value", "value", "v")]
    names += [builder.capture(7), builder.capture(7)]
    texts = [name.text for name in names]
    assert len(set(texts)) == len(texts)
    assert "names" not in texts
    with pytest.raises(ValueError, match="'value' is in use"):
        builder.parameter("value")


@pytest.mark.parametrize("name", [*INJECTIONS, Subclass("x y"), Subclass("x"), 7, None])
def test_a_name_must_be_an_identifier(name: Any) -> None:
    builder = FunctionBuilder("names", "test")
    owner = builder.parameter("owner")
    uses: list[Callable[[], object]] = [
        lambda: FunctionBuilder(name, "test"),
        lambda: builder.parameter(name),
        lambda: builder.local(name),
        lambda: builder.let(name, "{owner}", owner=owner),
        lambda: builder.bind(object(), name),
        lambda: builder.attribute(owner, name),
        lambda: builder.set(owner, name, owner),
        lambda: builder.attribute(owner, "orig", name),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="is not an identifier"):
            use()


def test_a_field_with_a_hostile_name_is_refused() -> None:
    """A class may have attributes of any name; generated source may not."""
    hostile = "mark = 0; import os #"
    cls = type("Hostile", (), {"__slots__": ("mark",)})
    setattr(cls, hostile, 7)
    builder = FunctionBuilder("read", "test")
    obj = builder.let("obj", "{new}({cls})", new=object.__new__, cls=cls)
    with pytest.raises(ValueError, match="is not an identifier"):
        builder.set(obj, hostile, 7)
    with pytest.raises(ValueError, match="is not an identifier"):
        builder.attribute(obj, hostile)
    builder.line("return {obj}", obj=obj)
    assert "import" not in builder.source
    assert type(builder.build()()) is cls


@pytest.mark.parametrize("text", ["x; import os", "os.system('true')", "7", "10.0.0.1", "'", "7.5"])
def test_a_value_that_was_formatted_into_a_template_is_refused(text: str) -> None:
    builder = FunctionBuilder("read", "test")
    x = builder.parameter("x")
    for template in (f"{{x}} == {text}", f"{{x}} == {text!r}", f"{{x}}.{text}", f"{{x}}[{text!r}]"):
        with pytest.raises(ValueError, match="a template has"):
            builder.line(template, x=x)
    assert builder.source == "def read(x):\n    pass\n"


# -- templates ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "template",
    [
        *(
            "{x} == 7",
            "{x} == 10.0.0.1",
            "{x} == 'text'",
            '{x} == "text"',
            "{x} == os",
            "import os",
        ),
        *("{x}; {x}", "{x}\n{x}", "{x} # {x}", "{x} == -{x}", "f({x})", "os.system({x})", "{x!r}"),
        *("{x:>9}", "{x.text}", "{x[0]}", "{0}", "{}", "{{", "{x", "x}", "lambda: {x}", "{x}\\"),
        *("{x} == 1", "{x}1", "{x} == x1", "del {x}", "yield {x}", "await {x}", "{X}", "@{x}", "é"),
    ],
)
def test_a_template_has_nothing_but_keywords_operators_and_placeholders(template: str) -> None:
    builder = FunctionBuilder("names", "test")
    x = builder.parameter("x")
    with pytest.raises(ValueError, match="a template has"):
        builder.expression(template, x=x)
    with pytest.raises(ValueError, match="a template has"):
        builder.line(template, x=x)
    with pytest.raises(ValueError, match="a template has"):
        builder.let("y", template, x=x)
    with pytest.raises(ValueError, match="a template has"), builder.block(template, x=x):
        pass
    assert "pass" in builder.source


def test_a_format_is_a_value() -> None:
    builder = FunctionBuilder("write", "test")
    x, y = builder.parameter("x"), builder.parameter("y")
    line = builder.expression("{line} % ({values})", line="100%% %s of %s", values=[x, y])
    builder.line("return {line}", line=line)
    assert "100" not in builder.source
    assert builder.build()(1, "x%%") == "100% 1 of x%%"


def test_parts_must_match_the_placeholders() -> None:
    builder = FunctionBuilder("names", "test")
    x = builder.parameter("x")
    for parts in ({}, {"y": x}, {"x": x, "y": x}):
        with pytest.raises(ValueError, match="the placeholders of"):
            builder.expression("{x}", **parts)


def test_an_expression_cannot_be_created_or_formatted_directly() -> None:
    with pytest.raises(TypeError, match="created by a method of FunctionBuilder"):
        Expression()
    found = FunctionBuilder("names", "test").parameter("x")
    with pytest.raises(TypeError, match="it cannot be formatted"):
        f"{found}"
    assert repr(found) == "<Expression x>"


def test_templates_of_the_package_are_literals() -> None:
    """A type checker demands the same: they are ``LiteralString``."""
    at = {"expression": 0, "line": 0, "block": 0, "let": 1}
    found = 0
    for path in Path(conntrack_aio.__file__).parent.rglob("*.py"):
        text = path.read_text()
        if "FunctionBuilder" not in text or path.name == "function_builder.py":
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = ast.unparse(node.func.value)
            if node.func.attr in at and owner in ("builder", "self._builder"):
                template = node.args[at[node.func.attr]]
                assert isinstance(template, ast.Constant), (path, ast.unparse(node))
                found += 1
    assert found > 30


# -- sources ------------------------------------------------------------------------------------


def test_blocks_are_indented_and_their_headers_are_rendered_last() -> None:
    builder = FunctionBuilder("total", "test", keyword_only=True)
    rows, start = builder.parameter("rows"), builder.parameter("start", 5)
    total = builder.let("total", "{start}", start=start)
    columns: list[Expression] = []
    with builder.block("for ({columns}) in {rows}", columns=columns, rows=rows):
        columns += [builder.local("column") for _ in range(2)]
        equal = builder.join("is", [*columns, None])
        others = [builder.expression("{column} is None", column=column) for column in columns]
        with builder.block(
            "if {equal} or {others}", equal=equal, others=builder.join("or", others)
        ):
            builder.line("return None")
        builder.line(
            "{total} = {sum}", total=total, sum=builder.call(int.__add__, total, columns[0])
        )
    builder.line("return {total}", total=total)
    assert builder.source == (
        "def total(*, rows, start=c):\n"
        "    total1 = start\n"
        "    for (column, column1, ) in rows:\n"
        "        if column is column1 is None or (column is None or\n"
        "            column1 is None):\n"
        "            return None\n"
        "        total1 = __add__(total1, column)\n"
        "    return total1\n"
    )
    function = builder.build()
    assert function(rows=[(1, 0), (2, 0)]) == 8
    assert function(rows=[(1, None)]) is None


def test_an_empty_body_does_nothing() -> None:
    assert FunctionBuilder("nothing", "test").build()() is None


def test_a_join_needs_operands() -> None:
    with pytest.raises(ValueError, match="'and' needs operands"):
        FunctionBuilder("names", "test").join("and", [])
    with pytest.raises(KeyError):
        FunctionBuilder("names", "test").join("; import os;", [1, 2])


def test_a_traceback_shows_the_generated_line() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        divide_by(0)(1)
    shown = "".join(traceback.format_exception(raised.value))
    assert "return __truediv__(number, c)" in shown
    assert "<conntrack_aio test " in shown


def test_the_source_is_dropped_with_the_function() -> None:
    divide = divide_by(2)
    name = divide.__code__.co_filename
    assert name in linecache.cache
    del divide
    gc.collect()
    assert name not in linecache.cache


def test_a_function_keeps_its_values_and_nothing_else() -> None:
    class Value:
        pass

    value = Value()
    reference = weakref.ref(value)
    builder = FunctionBuilder("get", "test")
    builder.line("return {value}", value=value)
    function = builder.build()
    del builder, value
    gc.collect()
    assert function() is reference()
    assert "get" not in function.__globals__
    del function
    assert reference() is None  # without the garbage collector: there is no cycle


# -- captured values ----------------------------------------------------------------------------


def compare(factories: Factories | None, *values: object, bound: object = None) -> Any:
    builder = FunctionBuilder("compare", "test", factories=factories)
    found = builder.parameter("found")
    parts = [builder.expression("{f} == {v}", f=found, v=builder.capture(v)) for v in values]
    builder.line("return {any}", any=builder.join("or", [*parts, bound]))
    return builder.build()


def test_functions_of_one_source_share_it() -> None:
    factories: Factories = {}
    one, other = compare(factories, 1, 2), compare(factories, 3, 3)
    assert one.__code__ is other.__code__
    assert (one(2), other(2), other(3)) == (True, None, True)
    assert len(factories) == 1
    assert compare(factories, 1, 2, 3).__code__ is not one.__code__
    assert len(factories) == 2
    assert compare(None, 1, 2)(2) is True


def test_functions_that_bind_other_objects_do_not_share_their_source() -> None:
    factories: Factories = {}
    functions = [compare(factories, 1, bound=bound) for bound in ("x", "y", "x")]
    assert [function(2) for function in functions] == ["x", "y", "x"]
    assert len(factories) == 2


def test_a_shared_source_lives_as_long_as_any_of_its_functions() -> None:
    factories: Factories = {}
    one, other = compare(factories, 1), compare(factories, 2)
    name = one.__code__.co_filename
    del one, factories
    gc.collect()
    assert linecache.getlines(name)
    del other
    gc.collect()
    assert name not in linecache.cache


# -- memos --------------------------------------------------------------------------------------


def test_a_memo_computes_once_and_is_cleared_at_its_limit() -> None:
    calls: list[int] = []

    def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    memo = BoundedMemo(3, double)
    assert [memo[each] for each in (1, 2, 3, 1, 2, 3)] == [2, 4, 6, 2, 4, 6]
    assert calls == [1, 2, 3]
    assert memo[4] == 8
    assert memo == {4: 8}
    memo.store(5, 10)
    assert memo == {4: 8, 5: 10}


def test_a_failed_computation_stores_nothing() -> None:
    memo = BoundedMemo(2, {1: 2}.__getitem__)
    assert memo[1] == 2
    with pytest.raises(KeyError):
        memo[3]
    assert memo == {1: 2}


def test_a_memo_without_a_function_is_filled_by_storing() -> None:
    memo = BoundedMemo(2)
    with pytest.raises(KeyError):
        memo[1]
    memo.store(1, "one")
    assert memo[1] == "one"


def test_find_computes_nothing() -> None:
    memo = BoundedMemo(3, str)
    builder = FunctionBuilder("find", "test")
    key = builder.parameter("key")
    first, second = builder.find(memo, key), builder.find(memo, key)
    assert first.text == second.text == "get(key)"
    other = builder.find(BoundedMemo(3), key)
    assert other.text != first.text
    builder.line("return {first}", first=first)
    find = builder.build()
    assert find(1) is None
    assert memo[1] == find(1) == "1"


def test_store_as_source_and_as_a_call_do_the_same() -> None:
    written, called = BoundedMemo(3), BoundedMemo(3)
    builder = FunctionBuilder("store", "test")
    key, value = builder.parameter("key"), builder.parameter("value")
    builder.store(written, key, value)
    store = builder.build()
    for number in range(10):
        store(number, str(number))
        called.store(number, str(number))
        assert written == called
        assert len(written) <= 3
