"""Write flows to files: Arrow IPC streams and Parquet."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from importlib import import_module
from io import BytesIO
from types import ModuleType
from typing import Any, BinaryIO, Final

from ..codec.arrow_table import ArrowTable
from ..codec.column_fields import select_columns
from ..model.flow import Flow
from ..streams.column_batches import ColumnBatches
from .failures import CommandError
from .output import write_bytes
from .whole_files import written_whole

_ROWS_PER_GROUP: Final = 1 << 17
"""About how many rows a row group of a Parquet file has."""

STANDARD_OUTPUT: Final = "-"


def import_extra(module: str, package: str, install: str) -> ModuleType:
    """Import a module of an optional package.

    :param module: the module.
    :param package: the package.
    :param install: what to install.
    :raises CommandError: when it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise CommandError(f"this needs the package {package}: pip install {install}") from None


async def write_arrow(batches: ColumnBatches, path: str) -> None:
    """Write batches to a file as an Arrow IPC stream, one after the other.

    :param batches: the batches, with addresses as text.
    :param path: the file; ``-`` for standard output.
    :raises CommandError: when nanoarrow is not installed.
    """
    ipc = import_extra("nanoarrow.ipc", "nanoarrow", "nanoarrow")
    buffer = BytesIO()
    writer: Any = ipc.StreamWriter.from_writable(buffer)
    with nullcontext() if path == STANDARD_OUTPUT else written_whole(path) as file:

        def write(rows: object) -> None:
            """Write rows. nanoarrow would report a full disk as an error without its reason."""
            writer.write_stream(rows)
            _write_all(file, buffer)

        write(ArrowTable(select_columns(Flow, ()), "text"))  # the schema
        async for batch in batches:
            write(batch)
        writer.close()
        _write_all(file, buffer)


def _write_all(file: BinaryIO | None, buffer: BytesIO) -> None:
    """Write the contents of a buffer, and empty it."""
    if file is None:
        write_bytes(buffer.getvalue())
    else:
        file.write(buffer.getvalue())
    buffer.seek(0)
    buffer.truncate()


async def write_parquet(batches: ColumnBatches, path: str) -> None:
    """Write batches to a Parquet file.

    :param batches: the batches, with addresses as text.
    :param path: the file.
    :raises CommandError: when pyarrow or nanoarrow is not installed.
    """
    pyarrow: Any = import_extra("pyarrow", "pyarrow", "pyarrow nanoarrow")
    parquet: Any = import_extra("pyarrow.parquet", "pyarrow", "pyarrow")
    import_extra("nanoarrow", "nanoarrow", "nanoarrow")
    if path == STANDARD_OUTPUT:
        raise CommandError("a Parquet file cannot be written to standard output; name a file")
    sources = select_columns(Flow, ())
    group = ArrowTable(sources, "text")
    with written_whole(path) as file:
        writer: Any = parquet.ParquetWriter(file, pyarrow.table(group).schema)
        try:
            async for batch in batches:
                group.add(batch)
                if len(group) >= _ROWS_PER_GROUP:
                    writer.write_table(pyarrow.table(group))
                    group = ArrowTable(sources, "text")
            if len(group):
                writer.write_table(pyarrow.table(group))
        except BaseException:
            with suppress(OSError):
                writer.close()  # otherwise it would be closed after its file
            raise
        writer.close()
