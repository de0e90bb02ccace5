"""Build functions from generated source, and bound the memos that such functions use.

Generated source has three ingredients, and :class:`FunctionBuilder` keeps them apart:

- **Templates** are literals of this package: keywords, operators, brackets, and placeholders.
- **Names** of fields and parameters come from declarations. Each must be an identifier.
- **Values** are everything else. A value is bound to a name and never becomes source text.

A placeholder is filled with an :class:`Expression`, which only a builder creates, or with a value,
which is then bound. A template that contains a number, a quote or a name is refused. So a value
that was formatted into a template by mistake raises an error.
"""

from __future__ import annotations

import linecache
import re
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from keyword import iskeyword
from types import CodeType, FunctionType
from typing import Any, Final, Literal, LiteralString, cast

_numbers: Final = count(1)
"""Numbers for the file names of sources, so that each is unique."""

_KEYWORDS: Final = frozenset(
    {"and", "else", "for", "if", "in", "is", "not", "or", "return", "None", "True", "False"}
)
"""The only words of a template that are neither placeholders nor attributes."""

_TOKEN: Final = re.compile(
    r"\{(?P<placeholder>[a-z_]+)\}|\.[A-Za-z_]+|(?P<word>[A-Za-z_]+)|:=|[ ,()\[\]=<>!&|*%+]"
)

_PLACEHOLDER: Final = re.compile(r"\{[a-z_]+\}")

_JOINTS: Final = {"and": " and\n", "or": " or\n", "is": " is "}
"""Each operand of ``and`` and ``or`` is on its own line, so a traceback shows the right one."""


class BoundedMemo(dict[Any, Any]):
    """A dict of computed results that is cleared when a new key would exceed its limit.

    Clearing everything costs little compared with finding the oldest result each time.
    """

    def __init__(
        self,
        limit: int,
        compute: Callable[[Any], object] | None = None,
        *,
        limit_if_exceeded: int | None = None,
    ) -> None:
        """Create an empty memo.

        :param limit: the largest number of results.
        :param compute: returns the result for a missing key of ``memo[key]``. Without it, results
            come from :meth:`store` alone.
        :param limit_if_exceeded: the limit from the time on when there are more results than
            ``limit``: few of them are then used again, and the garbage collector should not have to
            examine those that are not.
        """
        super().__init__()
        self.limit = limit
        self._limit_if_exceeded = limit if limit_if_exceeded is None else limit_if_exceeded
        self._compute = compute

    def __missing__(self, key: object) -> object:
        if self._compute is None:
            raise KeyError(key)
        value = self._compute(key)
        self.store(key, value)
        return value

    def store(self, key: object, value: object) -> None:
        """Add a result."""
        if len(self) >= self.limit:
            self.make_room()
        self[key] = value

    def make_room(self) -> None:
        """Clear the memo, because it is full."""
        self.clear()
        self.limit = self._limit_if_exceeded


class Expression:
    """A piece of source text. Only a :class:`FunctionBuilder` creates one.

    It cannot be formatted into a string: pass it to a template as the value of a placeholder.
    """

    __slots__ = ("text",)

    text: str

    def __init__(self) -> None:
        raise TypeError("an Expression is created by a method of FunctionBuilder")

    def __repr__(self) -> str:
        return f"<Expression {self.text}>"

    def __format__(self, spec: str) -> str:
        raise TypeError(f"pass {self!r} as the value of a placeholder; it cannot be formatted")


def _expression(text: str) -> Expression:
    result = object.__new__(Expression)
    result.text = text
    return result


_CONSTANTS: Final = {id(value): _expression(repr(value)) for value in (None, True, False)}

Factories = dict[tuple[object, ...], Callable[..., Callable[..., Any]]]
"""Compiled sources that several functions share: see :meth:`FunctionBuilder.capture`."""


class FunctionBuilder:
    """Build one function, line by line.

    Declare the parameters with :meth:`parameter`, write the body with :meth:`line`, :meth:`let`
    and :meth:`block`, then call :meth:`build` once.
    """

    def __init__(
        self,
        name: str,
        about: str,
        *,
        keyword_only: bool = False,
        factories: Factories | None = None,
    ) -> None:
        """Start a function.

        :param name: the function's name, an identifier.
        :param about: what the function is for, as a part of its file name in tracebacks.
        :param keyword_only: whether all parameters are keyword-only.
        :param factories: the compiled sources that this function may share with others.
        """
        self._name = _identifier(name)
        self._about = about
        self._parameters: list[str] = ["*"] if keyword_only else []
        self._first_lines: list[str] = []
        self._lines: list[str] = []
        self._indent = "    "
        self._taken: dict[str, int] = {name: 1}
        """The names in use, and how many fresh names were derived from each."""
        self._bound: dict[str, object] = {}
        """The function's global names. They keep every bound object alive."""
        self._names: dict[int, Expression] = {}
        """The name of each bound object, by the object's id."""
        self._getters: dict[int, Expression] = {}
        """The name of each memo's ``get``, by the memo's id. Each ``memo.get`` is a new object."""
        self._stored: set[int] = set()
        """The ids of the memos in which the function makes room."""
        self._factories = factories
        self._captured: dict[str, object] = {}
        """The values of :meth:`capture`, by name, if the function may share its source."""

    # -- names and values -------------------------------------------------------------------

    def parameter(self, name: str, *default: object) -> Expression:
        """Add a parameter with exactly this name, and its default value if there is one.

        :raises ValueError: when the name is not an identifier, or is in use.
        """
        if name in self._taken:
            raise ValueError(f"the name {name!r} is in use")
        result = self._fresh(name)
        value = "".join([f"={self.bind(each).text}" for each in default])
        self._parameters.append(name + value)
        return result

    def local(self, hint: str) -> Expression:
        """Return a new local variable. Its name starts with ``hint``, an identifier."""
        return self._fresh(hint)

    def bind(self, value: object, hint: str = "c") -> Expression:
        """Return the global name of an object. The same object has the same name.

        ``None``, ``True`` and ``False`` are written as literals. The name of a class starts with
        the class's own name, and any other name with ``hint``.
        """
        result = _CONSTANTS.get(id(value)) or self._names.get(id(value))
        if result is None:
            if issubclass(type(value), type):
                hint = _name_of(value, hint)
            result = self._names[id(value)] = self._fresh(hint)
            self._bound[result.text] = value
        return result

    def capture(self, value: object) -> Expression:
        """Return a new name for a value in which functions of the same source differ.

        Every call returns another name, even for the same value. So the source does not depend on
        any value, and functions can share it.
        """
        result = self._fresh("v")
        names = self._bound if self._factories is None else self._captured
        names[result.text] = value
        return result

    def _fresh(self, hint: str) -> Expression:
        taken = self._taken
        if hint not in taken:
            taken[_identifier(hint)] = 1
            return _expression(hint)
        name = hint
        while name in taken:
            name = f"{hint}{taken[hint]}"
            taken[hint] += 1
        taken[name] = 1
        return _expression(name)

    # -- expressions ------------------------------------------------------------------------

    def expression(self, template: LiteralString, /, **parts: object) -> Expression:
        """Return a template with its ``{placeholders}`` replaced.

        A part that is not an expression is bound. A list of parts is written with a comma after
        each part.

        :raises ValueError: when the template contains a number, a quote, or a name that is neither
            a placeholder nor an attribute, or when the parts are not those of its placeholders.
        """
        return _expression(self._render(template, parts))

    def call(self, function: Callable[..., object] | Expression, *arguments: object) -> Expression:
        """Return a call. The function and the arguments are parts as in :meth:`expression`."""
        name = self._text(function, _name_of(function, "call"))
        return _expression(f"{name}({', '.join([self._text(each) for each in arguments])})")

    def attribute(self, owner: object, *names: str) -> Expression:
        """Return the attribute of a part that a path of declared names leads to.

        :raises ValueError: when a name is not an identifier.
        """
        return _expression(".".join([self._text(owner), *map(_identifier, names)]))

    def join(self, operator: Literal["and", "or", "is"], operands: Sequence[object]) -> Expression:
        """Return parts joined by an operator. ``and`` and ``or`` come in parentheses.

        :raises ValueError: when there are no operands.
        """
        if not operands:
            raise ValueError(f"{operator!r} needs operands")
        joined = _JOINTS[operator].join([self._text(each) for each in operands])
        return _expression(joined if operator == "is" else f"({joined})")

    def find(self, memo: BoundedMemo, key: object) -> Expression:
        """Return the result that a memo has for a key, or ``None``. Nothing is computed.

        The bound method is called, because CPython is slow to call a method of a dict's subclass.
        """
        get = self._getters.get(id(memo))
        if get is None:
            get = self._getters[id(memo)] = self.bind(memo.get, "get")
        return self.call(get, key)

    def _render(self, template: str, parts: Mapping[str, object]) -> str:
        format, placeholders, names = _parsed(template)
        if frozenset(parts) != names:
            raise ValueError(f"the placeholders of {template!r} are not {', '.join(parts)}")
        texts = [
            part.text if type(part := parts[name]) is Expression else self._text(part, name)
            for name in placeholders
        ]
        return format % tuple(texts)

    def _text(self, part: object, hint: str = "c") -> str:
        """Return the text of a part. The name of a value that is bound starts with ``hint``."""
        if type(part) is Expression:
            return part.text
        if type(part) is list:
            return "".join([f"{self._text(each, hint)}, " for each in cast("list[object]", part)])
        return self.bind(part, hint).text

    # -- statements -------------------------------------------------------------------------

    def line(self, template: LiteralString, /, **parts: object) -> None:
        """Write a statement: see :meth:`expression`."""
        self._lines.append(self._indented(self._render(template, parts)))

    def first_line(self, template: LiteralString, /, **parts: object) -> None:
        """Write a statement before those written so far: see :meth:`expression`."""
        self._first_lines.insert(0, f"    {self._render(template, parts)}")

    def let(self, hint: str, template: LiteralString, /, **parts: object) -> Expression:
        """Assign an expression to a new local variable, and return the variable."""
        result = self.local(hint)
        self._lines.append(self._indented(f"{result.text} = {self._render(template, parts)}"))
        return result

    def set(self, owner: object, name: str, value: object) -> None:
        """Assign a part to the attribute of another part. The name comes from a declaration.

        :raises ValueError: when the name is not an identifier.
        """
        target, name = self._text(owner), _identifier(name)
        self._lines.append(f"{self._indent}{target}.{name} = {self._text(value)}")

    @contextmanager
    def block(self, template: LiteralString, /, **parts: object) -> Generator[None]:
        """Write a compound statement, whose body is what is written in the ``with`` block.

        The header is rendered when the block ends, so the body may add to a list among its parts.
        The template has no colon at its end.
        """
        outer, at = self._indent, len(self._lines)
        self._indent += "    "
        yield
        self._indent = outer
        self._lines.insert(at, self._indented(self._render(template, parts) + ":"))

    def store(self, memo: BoundedMemo, key: object, value: object) -> None:
        """Write the addition of a result to a memo.

        The function makes room in the memo when it is called, and not for each result, because
        that would take as long as the addition. So what one call adds may exceed the limit.
        """
        if id(memo) not in self._stored:
            self._stored.add(id(memo))
            check = self._render("if {len}({memo}) >= {memo}.limit", {"len": len, "memo": memo})
            make_room = self._render("{memo}.make_room()", {"memo": memo})
            self._first_lines += [f"    {check}:", f"        {make_room}"]
        self.line("{memo}[{key}] = {value}", memo=memo, key=key, value=value)

    def _indented(self, statement: str) -> str:
        """Return a statement at the current depth. Its further lines are inside brackets."""
        if "\n" in statement:
            statement = statement.replace("\n", f"\n{self._indent}    ")
        return self._indent + statement

    # -- the function -----------------------------------------------------------------------

    @property
    def source(self) -> str:
        """The source as written so far. If it may be shared, it is the source of a factory."""
        header = f"def {self._name}({', '.join(self._parameters)}):"
        body = [*self._first_lines, *self._lines] or ["    pass"]
        if self._factories is None:
            return "\n".join([header, *body, ""])
        factory = f"def make({', '.join(self._captured)}):"
        return "\n".join([factory, f"  {header}", *body, f"  return {self._name}", ""])

    def build(self) -> Callable[..., Any]:
        """Compile the source, unless a function shares it, and return the function.

        Functions share a source when they bind the same objects. They differ in captured values.
        The source is registered with :mod:`linecache` for as long as a function of it lives.
        """
        source = self.source
        if self._factories is None:
            return self._compiled(source, self._name)
        key = (source, *self._names)
        factory = self._factories.get(key)
        if factory is None:
            factory = self._factories[key] = self._compiled(source, "make")
        result: Callable[..., Any] = factory(*self._captured.values())
        return result

    def _compiled(self, source: str, name: str) -> FunctionType:
        file_name = f"<conntrack_aio {self._about} {next(_numbers)}>"
        names: dict[str, object] = dict(self._bound)
        exec(compile(source, file_name, "exec"), names)
        result = names.pop(name)
        assert isinstance(result, FunctionType)
        # Without a modification time, linecache never looks for a file of that name.
        lines = source.splitlines(keepends=True)
        linecache.cache[file_name] = (len(source), None, lines, file_name)
        # Every function of this source has the innermost code, and nothing else keeps that alive.
        code = _innermost(result.__code__)
        weakref.finalize(code, linecache.cache.pop, file_name, None).atexit = False
        return result


def _innermost(code: CodeType) -> CodeType:
    """Return the code of the function that a factory returns, or the code of a plain function."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return _innermost(inner[0]) if inner else code


def _identifier(name: str) -> str:
    """Return a name.

    :raises ValueError: when it is not an identifier.
    """
    if type(name) is not str or not name.isidentifier() or iskeyword(name):
        raise ValueError(f"{name!r} is not an identifier")
    return name


def _name_of(value: object, default: str) -> str:
    """Return the name of a class or function, if it is an identifier."""
    name = getattr(value, "__name__", None)
    return name if type(name) is str and name.isidentifier() and not iskeyword(name) else default


@lru_cache(256)
def _parsed(template: str) -> tuple[str, tuple[str, ...], frozenset[str]]:
    """Return the format of a template, its placeholders in order, and the set of them.

    :raises ValueError: when it contains anything else than keywords, operators and placeholders.
    """
    names: list[str] = []
    at = 0
    while at < len(template):
        token = _TOKEN.match(template, at)
        if token is None or (token["word"] or "and") not in _KEYWORDS:
            raise ValueError(
                f"a template has keywords, operators and placeholders; bind what is at character "
                f"{at} of {template!r}"
            )
        if token["placeholder"]:
            names.append(token["placeholder"])
        at = token.end()
    return _PLACEHOLDER.sub("%s", template.replace("%", "%%")), tuple(names), frozenset(names)
