"""Parse the text of a match.

A recursive descent parser for this grammar::

    text:        disjunction
    disjunction: conjunction ("or" conjunction)*
    conjunction: factor ("and" factor)*
    factor:      "not" factor | "(" disjunction ")" | "all" | "none" | condition
    condition:   field "!=" values | field values | field comparison item
               | ("snat" | "dnat") ["to" values] | "assured" | "unreplied" | …
    values:      ["=" | "=="] ["in"] (item | "{" [item ("," item)*] "}")
    comparison:  ">=" | "<=" | ">" | "<"

The values after ``to`` are addresses or networks, each with a port at will: ``10.0.0.2:8443``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple, TypeVar

from ..errors import MatchError
from ..model.labels import LabelNames
from ..plain import as_str, describe_value
from ..suggestions import did_you_mean, suggestion
from .address_values import address_in, parse_network
from .bit_values import (
    STATUS_KEYWORDS,
    TRANSLATIONS,
    LabelBits,
    parse_label,
    parse_mark,
    parse_status,
)
from .describe import KEYWORDS
from .fields import (
    FAMILY,
    FIELDS,
    LABEL,
    PROTO,
    STATE,
    STATUS,
    AddressField,
    BitsField,
    MatchField,
    NumberField,
    TextField,
)
from .memberships import simplify_atom
from .name_values import parse_state, parse_text, state_in, text_in
from .nodes import FALSE, TRUE, Node, Numbers
from .number_values import number_in, parse_number
from .tree import MAX_DEPTH, TOO_DEEP, all_of, any_of, negate

T = TypeVar("T")

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
      | (?P<sign>>=|<=|!=|==|[()<>={},])
      | (?P<quoted>"(?:[^"\\]|\\.)*")
      | (?P<word>[^\s()<>={},!"]+)
    """,
    re.VERBOSE,
)

_ADDRESS_AND_PORT: Final = re.compile(
    r"(?:(?P<v4>[0-9./-]+\.[0-9./-]+)|(?P<v6>\[[^\[\]]*\])):(?P<port>.*)"
)
"""What an address or a network is translated to, with its port: ``10.0.0.2:80`` or ``[::1]:80``."""


class _Token(NamedTuple):
    text: str
    column: int
    """The position in the text, counted from 1."""
    kind: str
    """The group of :data:`_TOKEN` that it matches, or ``end`` at the end of the text."""


def _hint_for(name: str) -> str:
    """Return what the error for an unknown field suggests instead.

    The name may be a value whose field is missing: a protocol, an address or a network.
    """
    if name.lower() in PROTO.names or name.lower() in PROTO.aliases:
        return did_you_mean([f"proto {name}"])
    source = FIELDS["orig.src"]
    assert isinstance(source, AddressField)
    with suppress(MatchError):
        parse_network(source, name)
        return did_you_mean([f"{source.name} {name}"])
    known = [*FIELDS, *TRANSLATIONS, *dict.fromkeys(STATUS_KEYWORDS.values())]
    return suggestion(name, known) or f"; expected one of {', '.join(known)}"


class Parser:
    """A parser of one text."""

    def __init__(self, text: str, label_names: LabelNames | None) -> None:
        """Split a text into tokens.

        :param text: the text of a match.
        :param label_names: the names of labels, instead of those of the system.

        :raises TypeError: when the value is not text.
        :raises MatchError: when a character is in no token.
        """
        try:
            self._text = as_str(text)
        except TypeError:
            raise TypeError(f"the text of a match must be a str; got {describe_value(text)}") from (
                None
            )
        self._label_bits = LabelBits(label_names)
        self._tokens = self._tokenize()
        self._position = 0
        self._depth = 0

    def parse(self) -> Node:
        """Parse the whole text.

        :raises MatchError: when the text is not a match, or when conditions exclude each other.
        """
        if self._current.kind == "end":
            raise self._error("the text is empty; use 'all' to match every flow")
        node = self._disjunction()
        if self._current.kind != "end":
            found = describe_value(self._current.text)
            raise self._error(f"expected 'and', 'or' or the end of the text; got {found}")
        return node

    # -- tokens -------------------------------------------------------------------------------

    def _tokenize(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while at < len(self._text):
            found = _TOKEN.match(self._text, at)
            if found is None:
                if self._text[at] == '"':
                    raise self._error("the closing quotation mark is missing", at + 1)
                raise self._error(f"unexpected character {self._text[at]!r}", at + 1)
            if found.lastgroup != "space":
                tokens.append(_Token(found.group(), at + 1, found.lastgroup or ""))
            at = found.end()
        return [*tokens, _Token("", len(self._text.rstrip()) + 1, "end")]

    @property
    def _current(self) -> _Token:
        return self._tokens[self._position]

    def _advance(self) -> _Token:
        """Consume the current token, and return it."""
        token = self._current
        self._position += token.kind != "end"
        return token

    def _accept(self, *texts: str) -> str | None:
        """Consume the current token and return its text, if it is one of these."""
        if self._current.kind in ("word", "sign") and self._current.text in texts:
            return self._advance().text
        return None

    def _error(self, reason: str, column: int | None = None) -> MatchError:
        return MatchError(reason, self._text, self._current.column if column is None else column)

    def _at_column(self, column: int, make: Callable[[], T]) -> T:
        """Call a function, and attach a column to any :exc:`MatchError` that it raises."""
        try:
            return make()
        except MatchError as error:
            raise self._error(error.reason, column) from None

    # -- the grammar --------------------------------------------------------------------------

    def _disjunction(self) -> Node:
        column = self._current.column
        parts = [self._conjunction()]
        while self._accept("or"):
            parts.append(self._conjunction())
        return self._at_column(column, lambda: any_of(parts)) if len(parts) > 1 else parts[0]

    def _conjunction(self) -> Node:
        column = self._current.column
        parts = [self._factor()]
        while self._accept("and"):
            parts.append(self._factor())
        return self._at_column(column, lambda: all_of(parts)) if len(parts) > 1 else parts[0]

    def _factor(self) -> Node:
        """Parse a condition, a negated one, or an expression in parentheses."""
        self._depth += 1
        # This bounds the recursion. A level of the tree may take two calls, for "not" and for
        # parentheses.
        if self._depth > 2 * MAX_DEPTH:
            raise self._error(TOO_DEEP)
        try:
            column = self._current.column
            if self._accept("not"):
                part = self._factor()
                return self._at_column(column, lambda: negate(part))
            if self._accept("("):
                part = self._disjunction()
                if not self._accept(")"):
                    raise self._error("expected ')'")
                return part
            if keyword := self._accept("all", "none"):
                return TRUE if keyword == "all" else FALSE
            return self._condition()
        finally:
            self._depth -= 1

    def _condition(self) -> Node:
        name = self._advance()
        if name.kind != "word" or name.text in KEYWORDS:
            found = repr(name.text) if name.text else "the end of the text"
            raise self._error(f"expected a condition; got {found}", name.column)
        if name.text in TRANSLATIONS:
            return self._translation(name.text)
        if status := STATUS_KEYWORDS.get(name.text):
            return parse_status(status)
        field = FIELDS.get(name.text)
        if field is None:
            hint = _hint_for(name.text)
            raise self._error(f"unknown field {describe_value(name.text)}{hint}", name.column)
        if self._accept("!="):
            return negate(self._values(field))
        return self._values(field)

    def _translation(self, name: str) -> Node:
        """Parse what follows ``snat`` or ``dnat``."""
        bit, address, port = TRANSLATIONS[name]
        translated = parse_status(bit)
        if not self._accept("to"):
            return translated
        address_field, port_field = FIELDS[address], FIELDS[port]
        assert isinstance(address_field, AddressField)
        assert isinstance(port_field, NumberField)

        def target(text: str) -> Node:
            with_port = _ADDRESS_AND_PORT.fullmatch(text)
            where = text if with_port is None else with_port["v4"] or with_port["v6"]
            try:
                found = address_in(address_field, [parse_network(address_field, where)])
            except MatchError as error:  # the text does not have the name of the field
                reason = error.reason.removeprefix(f"{address}: ")
                raise MatchError(f"{name} to: {reason}") from None
            if with_port is None:
                return found
            ports = number_in(port_field, [parse_number(port_field, with_port["port"])])
            return all_of([found, ports])

        column = self._current.column
        items = self._items(address_field)
        targets = [self._at_column(token.column, partial(target, text)) for token, text in items]
        return self._at_column(column, lambda: all_of([translated, any_of(targets)]))

    # -- values -------------------------------------------------------------------------------

    def _values(self, field: MatchField) -> Node:
        if (
            isinstance(field, NumberField)
            and field not in (FAMILY, STATE)
            and (sign := self._accept(">=", "<=", ">", "<"))
        ):
            return self._comparison(field, sign)
        items = self._items(field)
        return self._condition_on(field, items) if items else FALSE

    def _items(self, field: MatchField) -> list[tuple[_Token, str]]:
        """Parse a value, or several in braces; see :meth:`_item`."""
        self._accept("=", "==")
        self._accept("in")
        # A bracket is an error, unless it begins an IPv6 address such as [::1].
        bracketed_address = isinstance(field, AddressField) and "]" in self._current.text
        if self._current.text.startswith(("(", "[")) and not bracketed_address:
            raise self._error(f"write several values of {field.name} in braces: {{…, …}}")
        if not self._accept("{"):
            return [self._item(field)]
        if self._accept("}"):
            return []
        items = [self._item(field)]
        while self._accept(","):
            items.append(self._item(field))
        if not self._accept("}"):
            raise self._error("expected ',' or '}'")
        return items

    def _item(self, field: MatchField) -> tuple[_Token, str]:
        """Parse one value, and return its token and its text without quotation marks."""
        token = self._advance()
        if token.text == "not":
            raise self._error(
                f"'not' must precede the whole condition: not {field.name} …", token.column
            )
        if token.kind == "word":
            return token, token.text
        if token.kind == "quoted":
            return token, re.sub(r"\\(.)", r"\1", token.text[1:-1])
        raise self._error(f"expected a value of {field.name}", token.column)

    def _condition_on(self, field: MatchField, items: list[tuple[_Token, str]]) -> Node:
        """Return the condition that a field has one of several values."""

        def parse_all(read: Callable[[str], T]) -> list[T]:
            return [self._at_column(token.column, partial(read, text)) for token, text in items]

        if field is STATE:
            return state_in(parse_all(parse_state))
        if isinstance(field, NumberField):
            return number_in(field, parse_all(lambda text: parse_number(field, text)))
        if isinstance(field, AddressField):
            return address_in(field, parse_all(lambda text: parse_network(field, text)))
        if isinstance(field, TextField):
            return text_in(field, parse_all(lambda text: parse_text(field, text)))
        assert isinstance(field, BitsField)
        return any_of(
            [
                self._at_column(token.column, self._bits_parser(field, token, text))
                for token, text in items
            ]
        )

    def _bits_parser(self, field: BitsField, token: _Token, text: str) -> Callable[[], Node]:
        """Return the function that reads one value, which may have several bits."""
        if field is STATUS:
            return lambda: parse_status(text)
        if field is LABEL:
            # A name in quotation marks may contain this character itself.
            labels = [text] if token.kind == "quoted" else text.split("|")
            return lambda: all_of([parse_label(label, self._label_bits) for label in labels])
        return lambda: parse_mark(text)

    def _comparison(self, field: NumberField, sign: str) -> Node:
        token, text = self._item(field)

        def make() -> Node:
            first, last = parse_number(field, text)
            if first != last:
                raise MatchError(f"{sign} takes one number; got the range {text!r}")
            low, high = {
                ">=": (first, field.maximum),
                "<=": (0, first),
                ">": (first + 1, field.maximum),
                "<": (0, first - 1),
            }[sign]
            if low > high:
                raise MatchError(f"never true: {field.name} {sign} {first}")
            return simplify_atom(Numbers(field, ((low, high),)))

        return self._at_column(token.column, make)
