"""Run SQL queries on the flows of a table, with DuckDB."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import chain, islice
from threading import Thread
from time import monotonic
from typing import Any, Final, cast

from ..codec.arrow_table import ArrowTable
from ..codec.column_fields import select_columns
from ..connecting import connect
from ..model.flow import Flow
from .aligned import AlignedRows, printable
from .arrow_files import import_extra
from .failures import CommandError
from .output import write_line
from .progress import dump_progress
from .running import run_async

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

_INTERRUPT_TIMEOUT: Final = 1.0
"""Seconds to wait for DuckDB to end a query after an interrupt. It cannot end a single call of a
function."""

_FETCHED_ROWS: Final = 1000
"""Rows of a result that are fetched at a time."""


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
    flows = run_async(partial(_dump, options, names))
    columns, types = query.prepare(flows)
    rows = query.run(_json_of(columns) if options.json else _texts_of(columns))
    if rows is None:
        return False
    if options.json:
        for (row,) in rows:
            write_line(_strict(row))
    else:
        _write_aligned(columns, types, rows)
    return True


async def _dump(options: argparse.Namespace, names: tuple[str, ...]) -> ArrowTable:
    async with connect(netns=options.netns) as conn:
        with await dump_progress(conn, options.match, quiet=options.quiet):
            return await conn.arrow(options.match, *names, addresses="text")


class _Query:
    """A query on the table ``flows``."""

    def __init__(self, text: str) -> None:
        """Check that DuckDB regards a query as one SELECT statement.

        :raises CommandError: when DuckDB or nanoarrow is not installed, or when the query is
            something else.
        """
        self._duckdb: Any = import_extra("duckdb", "duckdb", "duckdb nanoarrow")
        import_extra("nanoarrow", "nanoarrow", "duckdb nanoarrow")
        self._text = text
        self._connection = self._connect()
        self._create_flows(ArrowTable(select_columns(Flow, ()), "text"), "*")
        statements = self._ask(lambda: self._connection.extract_statements(text))
        select = self._duckdb.StatementType.SELECT
        if [statement.type for statement in statements] != [select]:
            raise CommandError(
                "the query must be one statement that reads: SELECT, also as FROM, WITH or VALUES; "
                "DESCRIBE, SUMMARIZE or SHOW"
            )

    def _connect(self) -> Any:
        """Return a connection to a database in memory."""
        return self._duckdb.connect(":memory:", config=_LOCKED_DOWN)

    def _create_flows(self, flows: ArrowTable, columns: str) -> None:
        """Create the table ``flows``, a view of flows that have no other name in the database.

        :param flows: the flows.
        :param columns: the columns of the view, in SQL.
        """
        self._connection.from_arrow(flows).project(columns).create_view("flows")
        self._connection.execute("set lock_configuration = true")

    def _ask(self, action: Callable[[], Any]) -> Any:
        """Return the result of an action of DuckDB.

        :raises CommandError: when DuckDB raises an error.
        """
        try:
            return _interruptible(self._connection, action)
        except self._duckdb.Error as error:
            raise CommandError(str(error)) from None

    def names(self) -> tuple[str, ...] | None:
        """Return the names of the columns that the query needs; ``None`` if that is unknown.

        :raises CommandError: when DuckDB refuses the query.
        """
        explain = f"explain (format json) {self._text}"
        run = self._connection.execute
        try:
            plans = _interruptible(self._connection, lambda: run(explain).fetchall())
        except self._duckdb.Error:
            # EXPLAIN may also refuse what can be run. If not, this raises the better error.
            self._ask(lambda: run(self._text).fetchmany(1))
            return None
        found = set(chain.from_iterable(_scanned(json.loads(plan)) for _, plan in plans))
        known = select_columns(Flow, ())
        if not found <= known.keys():
            return None
        return tuple(name for name in known if name in found) or None

    def prepare(self, flows: ArrowTable) -> tuple[list[str], list[str]]:
        """Make the table ``flows`` have flows.

        :param flows: the flows, with the columns that the query needs.
        :returns: the names of the result's columns, each of which differs from the others, and
            their types.
        """
        described = self._connection.execute("describe flows").fetchall()
        view = ", ".join(
            _quoted(name)
            if name in flows.names
            else f"error('{_NOT_LOADED}')::{kind} as {_quoted(name)}"
            for name, kind, *_ in described
        )
        self._connection = self._connect()
        self._create_flows(flows, view)
        result = self._ask(lambda: self._connection.sql(self._select("*")))
        return list(result.columns), list(map(str, result.types))

    def _select(self, columns: str) -> str:
        """Return a query for columns of the result. DuckDB renames those that have one name.

        The query may end in a semicolon, which a comment may follow.
        """
        text = self._text.encode()
        tokens = [position for position, _ in self._duckdb.tokenize(self._text)]
        end = next((each for each in tokens if text[each : each + 1] == b";"), len(text))
        return f"select {columns} from ({text[:end].decode()}\n)"

    def run(self, columns: str) -> Iterator[tuple[Any, ...]] | None:
        """Run the query, and return its rows.

        :param columns: what to return of the result's columns, in SQL.
        :returns: ``None`` if the query needs other columns of the table, too.
        :raises CommandError: when DuckDB cannot run the query.
        """
        connection = self._connection
        query = self._select(columns)

        def start() -> list[tuple[Any, ...]]:
            connection.execute(query)
            return self._fetch()

        try:
            first = _interruptible(connection, start)
        except self._duckdb.Error as error:
            if _NOT_LOADED in str(error):
                return None
            raise CommandError(str(error)) from None
        return chain(first, self._rest())

    def _fetch(self) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._connection.fetchmany(_FETCHED_ROWS)
        return rows

    def _rest(self) -> Iterator[tuple[Any, ...]]:
        while rows := self._ask(self._fetch):
            yield from rows


def _interruptible(connection: Any, action: Callable[[], Any]) -> Any:
    """Return the result of an action of DuckDB, or let an interrupt end it.

    The action runs on a thread: Python handles signals only while the main thread is not in DuckDB.

    :raises KeyboardInterrupt: when an interrupt ended the action.
    """
    result: Future[Any] = Future()

    def work() -> None:
        try:
            result.set_result(action())
        except BaseException as error:
            result.set_exception(error)

    thread = Thread(target=work, name="duckdb", daemon=True)
    thread.start()
    try:
        return result.result()
    except KeyboardInterrupt:
        deadline = monotonic() + _INTERRUPT_TIMEOUT
        while thread.is_alive() and monotonic() < deadline:
            connection.interrupt()  # without effect before the query has started
            thread.join(0.05)
        raise


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
#
# DuckDB converts the values to text, because the objects of Python cannot hold all of them:
# nanoseconds, infinite times and months are lost.


def _quoted(name: str) -> str:
    """Return a name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def _texts_of(columns: Sequence[str]) -> str:
    """Return the columns of a result as text, in SQL."""
    return ", ".join(f"{_quoted(name)}::varchar" for name in columns)


def _json_of(columns: Sequence[str]) -> str:
    """Return the columns of a result as one object of JSON, in SQL."""
    fields = ", ".join(f"{_quoted(name)} := {_quoted(name)}" for name in columns)
    return f"to_json(struct_pack({fields}))::varchar"


def _strict(row: str) -> str:
    """Return a row as JSON, which has neither NaN nor infinities: they are null."""
    values = json.loads(row, parse_constant=lambda _: None)
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def _write_aligned(
    columns: Sequence[str], types: Sequence[str], rows: Iterator[tuple[str | None, ...]]
) -> None:
    """Print rows as aligned text, numbers to the right."""
    to_the_right = [_NUMBERS.fullmatch(kind) is not None for kind in types]
    table = AlignedRows(list(map(printable, columns)), to_the_right)
    while several := list(islice(rows, _FETCHED_ROWS)):
        table.add(
            [["NULL" if cell is None else printable(cell) for cell in row] for row in several]
        )
    table.finish()


_NUMBERS: Final = re.compile(
    r"U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|BIGNUM|FLOAT|DOUBLE|DECIMAL\(.*\)"
)
"""The names of the types of numbers."""
