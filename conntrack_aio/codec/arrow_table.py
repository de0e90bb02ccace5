"""Tables of flows as Apache Arrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from .arrow import Addresses, schema_of_columns, stream_of
from .column_fields import ColumnSource
from .columns import ColumnBatch


class ArrowTable:
    """Flows as an Arrow table: what :meth:`Connection.arrow` returns.

    Libraries that know the Arrow PyCapsule interface take it as a table, any number of times::

        flows = await conn.arrow()
        polars.DataFrame(flows)
        duckdb.sql("select state, count(*) from flows group by state")
        pyarrow.table(flows)
    """

    def __init__(self, sources: Mapping[str, ColumnSource], addresses: Addresses) -> None:
        """Initialize a table without rows.

        :param sources: the columns, by name.
        :param addresses: how columns hold addresses.
        """
        self._batches: list[ColumnBatch] = []
        self._arrays: list[object] = []
        self._rows = 0
        self._names = tuple(sources)
        self._schema = schema_of_columns(sources, addresses)

    def add(self, batch: ColumnBatch) -> None:
        """Add rows at the end."""
        batch.drop_rows()
        self._arrays.append(batch.to_array(self._schema))
        self._batches.append(batch)
        self._rows += len(batch)

    @property
    def batches(self) -> Sequence[ColumnBatch]:
        """The rows, in batches."""
        return tuple(self._batches)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return self._names

    def __len__(self) -> int:
        return self._rows

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an ArrowTable cannot be pickled or copied; pyarrow.table() makes a table that can"
        )

    def __repr__(self) -> str:
        return f"<ArrowTable: {self._rows} rows, {len(self._names)} columns>"

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return an Arrow stream of the rows, as a capsule of the Arrow PyCapsule interface."""
        return stream_of(self._arrays, self._schema).__arrow_c_stream__(requested_schema)
