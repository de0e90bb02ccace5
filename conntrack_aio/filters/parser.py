"""The text of a match, read."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, TypeVar

from ..errors import MatchError
from ..model.labels import LabelNames
from ..plain import as_str, describe_value
from . import values
from .fields import (
    FAMILY,
    FIELDS,
    LABEL,
    STATE,
    STATUS,
    AddressField,
    Field,
    NumberField,
    TextField,
)
from .nodes import FALSE, TRUE, Node, Numbers
from .tree import DEEPEST, atom, every, negate, some
from .words import KEYWORDS, near

T = TypeVar("T")

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
      | (?P<sign>>=|<=|!=|==|[()<>={},])
      | (?P<quoted>"(?:[^"\\]|\\.)*")
      | (?P<word>[^\s()<>={},!"]+)
    """,
    re.VERBOSE,
)


class _Token(NamedTuple):
    text: str
    column: int
    """From 1 on."""
    kind: str


class Parser:
    """One text."""

    def __init__(self, text: str, labels: LabelNames | None) -> None:
        """Raises :exc:`TypeError` for what is no text."""
        try:
            self._text = as_str(text)
        except TypeError:
            raise TypeError(f"a match is read of text, not of {describe_value(text)}") from None
        self._labels = values.Names(labels)
        self._tokens = self._split()
        self._at = 0
        self._depth = 0

    def parse(self) -> Node:
        """All of it. Raises :exc:`MatchError`."""
        if self._now.kind == "end":
            raise self._error("an empty text is no match; 'all' is every flow")
        node = self._some()
        if self._now.kind != "end":
            found = describe_value(self._now.text)
            raise self._error(f"'and', 'or' or the end was expected, not {found}")
        return node

    # -- tokens -------------------------------------------------------------------------------

    def _split(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while at < len(self._text):
            found = _TOKEN.match(self._text, at)
            if found is None:
                raise self._error("this can't be read", at + 1)
            if found.lastgroup != "space":
                tokens.append(_Token(found.group(), at + 1, found.lastgroup or ""))
            at = found.end()
        return [*tokens, _Token("", len(self._text.rstrip()) + 1, "end")]

    @property
    def _now(self) -> _Token:
        return self._tokens[self._at]

    def _next(self) -> _Token:
        token = self._now
        self._at += token.kind != "end"
        return token

    def _take(self, *texts: str) -> str | None:
        """The next token, if it is one of these."""
        if self._now.kind in ("word", "sign") and self._now.text in texts:
            return self._next().text
        return None

    def _error(self, reason: str, column: int | None = None) -> MatchError:
        return MatchError(reason, self._text, self._now.column if column is None else column)

    def _at_column(self, column: int, make: Callable[[], T]) -> T:
        """What is wrong with what is made is wrong here."""
        try:
            return make()
        except MatchError as error:
            raise self._error(error.reason, column) from None

    # -- sentences ----------------------------------------------------------------------------

    def _some(self) -> Node:
        column = self._now.column
        parts = [self._every()]
        while self._take("or"):
            parts.append(self._every())
        return self._at_column(column, lambda: some(parts)) if len(parts) > 1 else parts[0]

    def _every(self) -> Node:
        column = self._now.column
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return self._at_column(column, lambda: every(parts)) if len(parts) > 1 else parts[0]

    def _one(self) -> Node:
        """A condition, what is denied, or what stands in parentheses."""
        self._depth += 1
        if self._depth > 2 * DEEPEST:
            raise self._error(f"conditions are nested more than {DEEPEST} deep")
        try:
            column = self._now.column
            if self._take("not"):
                part = self._one()
                return self._at_column(column, lambda: negate(part))
            if self._take("("):
                part = self._some()
                if not self._take(")"):
                    raise self._error("')' is missing")
                return part
            if word := self._take("all", "none"):
                return TRUE if word == "all" else FALSE
            return self._condition()
        finally:
            self._depth -= 1

    def _condition(self) -> Node:
        name = self._next()
        if name.kind != "word" or name.text in KEYWORDS:
            found = repr(name.text) if name.text else "the end"
            raise self._error(f"a condition was expected, not {found}", name.column)
        if name.text in values.NAT:
            return self._nat(*values.NAT[name.text])
        if word := values.STATUS_WORDS.get(name.text):
            return values.status_text(word)
        field = FIELDS.get(name.text)
        if field is None:
            known = [*FIELDS, *values.NAT, *dict.fromkeys(values.STATUS_WORDS.values())]
            meant = near(name.text, known)
            hint = f"did you mean {', '.join(meant)}?" if meant else f"there are {', '.join(known)}"
            raise self._error(f"unknown field {describe_value(name.text)}; {hint}", name.column)
        if self._take("!="):
            return negate(self._values(field))
        return self._values(field)

    def _nat(self, bit: str, end: str) -> Node:
        translated = values.status_text(bit)
        if not self._take("to"):
            return translated
        return every([translated, self._values(FIELDS[end])])

    # -- values -------------------------------------------------------------------------------

    def _values(self, field: Field) -> Node:
        if (
            isinstance(field, NumberField)
            and field not in (FAMILY, STATE)
            and (sign := self._take(">=", "<=", ">", "<"))
        ):
            return self._limit(field, sign)
        self._take("=", "==")
        self._take("in")
        kept = isinstance(field, AddressField) and "]" in self._now.text
        if self._now.text.startswith(("(", "[")) and not kept:
            raise self._error(f"several values of {field.name} stand in braces: {{…, …}}")
        if not self._take("{"):
            return self._of(field, [self._item(field)])
        if self._take("}"):
            return FALSE
        items = [self._item(field)]
        while self._take(","):
            items.append(self._item(field))
        if not self._take("}"):
            raise self._error("',' or '}' was expected")
        return self._of(field, items)

    def _item(self, field: Field) -> tuple[_Token, str]:
        token = self._next()
        if token.text == "not":
            raise self._error(
                f"'not' stands before the condition: not {field.name} …", token.column
            )
        if token.kind == "word":
            return token, token.text
        if token.kind == "quoted":
            return token, re.sub(r"\\(.)", r"\1", token.text[1:-1])
        raise self._error(f"a value of {field.name} was expected", token.column)

    def _of(self, field: Field, items: list[tuple[_Token, str]]) -> Node:
        def each(make: Callable[[str], T]) -> list[T]:
            return [self._at_column(token.column, partial(make, text)) for token, text in items]

        if field is STATE:
            states = each(values.state)
            return values.one_of(STATE, [(number, number) for of in states for number in of])
        if isinstance(field, NumberField):
            return values.one_of(field, each(lambda text: values.number(field, text)))
        if isinstance(field, AddressField):
            return values.one_network_of(field, each(lambda text: values.network(field, text)))
        if isinstance(field, TextField):
            return values.one_text_of(field, each(lambda text: values.text(field, text)))
        return some(
            [
                self._at_column(token.column, self._bits(field, *item))
                for item in items
                for token in item[:1]
            ]
        )

    def _bits(self, field: Field, token: _Token, text: str) -> Callable[[], Node]:
        """Return the function that makes the node of one value, which may have several bits."""
        if field is STATUS:
            return lambda: values.status_text(text)
        if field is LABEL:
            # A name in quotation marks may have this character itself.
            texts = [text] if token.kind == "quoted" else text.split("|")
            return lambda: every([values.label(each, self._labels) for each in texts])
        return lambda: values.mark(text)

    def _limit(self, field: NumberField, sign: str) -> Node:
        token, text = self._item(field)

        def make() -> Node:
            first, last = values.number(field, text)
            if first != last:
                raise MatchError(f"{text!r} is a range; {sign} takes one number")
            low, high = {
                ">=": (first, field.maximum),
                "<=": (0, first),
                ">": (first + 1, field.maximum),
                "<": (0, first - 1),
            }[sign]
            if low > high:
                raise MatchError(f"never true: {field.name} {sign} {first}")
            return atom(Numbers(field, ((low, high),)))

        return self._at_column(token.column, make)
