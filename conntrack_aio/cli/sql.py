"""Run SQL queries on the flows of a table, with DuckDB."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain, islice
from typing import Any, Final, cast

import anyio

from ..codec.arrow_table import ArrowTable
from ..codec.column_fields import select_columns
from ..connecting import connect
from ..model.flow import Flow
from .arrow_files import import_extra
from .failures import CommandError
from .output import interrupting_writes, write_line

_LOCKED_DOWN: Final = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
}
"""The settings of DuckDB. The command runs as root, and a query may come from someone else: it must
read and write no file, load no extension and see no variable of this program."""

_NOT_LOADED: Final = "conntrack-aio: this column was not read"
"""The error of a column that the plan of the query did not have. If a query meets it after all, it
is run again with all columns."""

_ALIGNED_ROWS: Final = 1000
"""Rows that determine the widths of the printed columns."""


def run_sql(options: argparse.Namespace) -> None:
    """Run a query, and print its result.

    :raises CommandError: when DuckDB is not installed, or when it refuses the query.
    """
    query = _Query(options.query)
    names = query.names()
    if names is not None and _try(query, names, options):
        return
    _try(query, (), options)


def _try(query: _Query, names: tuple[str, ...], options: argparse.Namespace) -> bool:
    """Dump the flows, run the query on them, and print the result.

    :param query: the query.
    :param names: the columns that it needs; all columns if there are none.
    :param options: the options of the subcommand.
    :returns: whether the columns were enough.
    """
    flows = anyio.run(_dump, options, names)
    rows = query.run(flows)
    if rows is None:
        return False
    columns, types = query.columns
    if options.json:
        for row in rows:
            values = dict(zip(columns, map(_plain, row), strict=True))
            write_line(json.dumps(values, ensure_ascii=False))
    else:
        _write_aligned(columns, types, rows)
    return True


async def _dump(options: argparse.Namespace, names: tuple[str, ...]) -> ArrowTable:
    with interrupting_writes():
        async with connect(netns=options.netns) as conn:
            return await conn.arrow(options.match, *names, addresses="text")


class _Query:
    """A query on the table ``flows``."""

    def __init__(self, text: str) -> None:
        """Check that a query is one SELECT statement.

        :raises CommandError: when DuckDB or nanoarrow is not installed, or when the query is
            something else.
        """
        self._duckdb: Any = import_extra("duckdb", "duckdb", "duckdb nanoarrow")
        import_extra("nanoarrow", "nanoarrow", "duckdb nanoarrow")
        self._text = text
        self._cursor: Any = None
        self._connection = self._connect()
        statements = self._ask(lambda: self._connection.extract_statements(text))
        select = self._duckdb.StatementType.SELECT
        if [statement.type for statement in statements] != [select]:
            raise CommandError("the query must be one SELECT statement")

    def _connect(self) -> Any:
        """Return a connection to a database in memory whose table ``flows`` is empty."""
        connection = self._duckdb.connect(":memory:", config=_LOCKED_DOWN)
        connection.register("flows", ArrowTable(select_columns(Flow, ()), "text"))
        connection.execute("set lock_configuration = true")
        return connection

    def _ask(self, action: Any) -> Any:
        """Return the result of an action of DuckDB.

        :raises CommandError: when DuckDB raises an error.
        """
        try:
            return action()
        except self._duckdb.Error as error:
            raise CommandError(str(error)) from None

    def names(self) -> tuple[str, ...] | None:
        """Return the names of the columns that the query needs; ``None`` if that is unknown.

        :raises CommandError: when DuckDB refuses the query.
        """
        explain = f"explain (format json) {self._text}"
        try:
            plans = self._connection.execute(explain).fetchall()
        except self._duckdb.Error:
            # EXPLAIN may also refuse what can be run. If not, this raises the better error.
            self._ask(lambda: self._connection.execute(self._text).fetchmany(1))
            return None
        found = set(chain.from_iterable(_scanned(json.loads(plan)) for _, plan in plans))
        known = select_columns(Flow, ())
        if not found <= known.keys():
            return None
        return tuple(name for name in known if name in found) or None

    @property
    def columns(self) -> tuple[list[str], list[str]]:
        """The names and the types of the result's columns."""
        described: list[tuple[Any, ...]] = self._cursor.description
        return [str(name) for name, *_ in described], [str(kind) for _, kind, *_ in described]

    def run(self, flows: ArrowTable) -> Iterator[tuple[object, ...]] | None:
        """Run the query, and return its rows.

        :param flows: the flows, with the columns that the query needs.
        :returns: ``None`` if it needs other columns, too.
        :raises CommandError: when DuckDB cannot run the query.
        """
        connection = self._duckdb.connect(":memory:", config=_LOCKED_DOWN)
        connection.register("loaded", flows)
        connection.execute(f"create temp view flows as select {self._view(flows)} from loaded")
        connection.execute("set lock_configuration = true")
        try:
            self._cursor = connection.execute(self._text)
            first: list[tuple[object, ...]] = self._cursor.fetchmany(_ALIGNED_ROWS)
        except self._duckdb.Error as error:
            if _NOT_LOADED in str(error):
                return None
            raise CommandError(str(error)) from None
        return chain(first, self._rest())

    def _view(self, flows: ArrowTable) -> str:
        """Return the columns of the view, which fails where a column was not read."""
        described = self._connection.execute("describe flows").fetchall()
        return ", ".join(
            f'"{name}"' if name in flows.names else f"error('{_NOT_LOADED}')::{kind} as \"{name}\""
            for name, kind, *_ in described
        )

    def _rest(self) -> Iterator[tuple[object, ...]]:
        while rows := self._ask(lambda: self._cursor.fetchmany(_ALIGNED_ROWS)):
            yield from rows


def _scanned(plan: object) -> Iterator[str]:
    """Yield the names of the columns that a plan of DuckDB reads."""
    if isinstance(plan, list):
        for each in cast("list[object]", plan):
            yield from _scanned(each)
    elif isinstance(plan, dict):
        node = cast("Mapping[str, Any]", plan)
        if "SCAN" in str(node.get("name")):
            projected: object = node.get("extra_info", {}).get("Projections", [])
            yield from [projected] if isinstance(projected, str) else cast("list[str]", projected)
        yield from _scanned(node.get("children", []))


# Output


def _plain(value: object) -> object:
    """Return a value as JSON has it."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in cast("Sequence[object]", value)]
    if isinstance(value, dict):
        items = cast("Mapping[object, object]", value).items()
        return {str(key): _plain(each) for key, each in items}
    return value if isinstance(value, str | int | float | None) else str(value)


def _text(value: object) -> str:
    if value is None:
        return ""
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _write_aligned(
    columns: Sequence[str], types: Sequence[str], rows: Iterator[tuple[object, ...]]
) -> None:
    """Print rows as aligned text, numbers to the right."""
    first = [list(map(_text, row)) for row in islice(rows, _ALIGNED_ROWS)]
    widths = [max(map(len, column)) for column in zip(columns, *first, strict=True)]
    to_the_right = [kind.upper().startswith(_NUMBERS) for kind in types]

    def line(cells: Sequence[str]) -> str:
        parts = zip(cells, widths, to_the_right, strict=True)
        aligned = [cell.rjust(n) if right else cell.ljust(n) for cell, n, right in parts]
        return "  ".join(aligned).rstrip()

    write_line(line(columns))
    for cells in chain(first, (list(map(_text, row)) for row in rows)):
        write_line(line(cells))


_NUMBERS: Final = (
    "NUMBER",
    "TINYINT",
    "SMALLINT",
    "INT",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINT",
    "UBIGINT",
    "UHUGEINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
)
"""What the names of the types of numbers begin with."""
