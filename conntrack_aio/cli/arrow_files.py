"""Write flows to files: Arrow IPC streams and Parquet."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
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


@contextmanager
def _writable(path: str) -> Generator[BinaryIO | None]:
    """Open a file to write; ``None`` stands for standard output."""
    if path == STANDARD_OUTPUT:
        yield None
        return
    file = open(path, "wb")  # noqa: SIM115
    try:
        yield file
    finally:
        with _naming(path):
            file.close()  # writes what is buffered


@contextmanager
def _naming(path: str) -> Generator[None]:
    """Make errors of writing a file name it. Python knows the name only when it opens a file."""
    try:
        yield
    except OSError as error:
        error.filename = path
        raise


async def write_arrow(batches: ColumnBatches, path: str) -> None:
    """Write batches to a file as an Arrow IPC stream, one after the other.

    :param batches: the batches, with addresses as text.
    :param path: the file; ``-`` for standard output.
    :raises CommandError: when nanoarrow is not installed.
    """
    ipc = import_extra("nanoarrow.ipc", "nanoarrow", "nanoarrow")
    buffer = BytesIO()
    writer: Any = ipc.StreamWriter.from_writable(buffer)
    with _writable(path) as file:

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
        with _naming(file.name):
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
    sources = select_columns(Flow, ())
    group = ArrowTable(sources, "text")
    with _writable(path) as file:
        if file is None:
            raise CommandError("a Parquet file cannot be written to standard output; name a file")
        with _naming(path):
            writer: Any = parquet.ParquetWriter(file, pyarrow.table(group).schema)

        def write(rows: ArrowTable) -> None:
            with _naming(path):
                writer.write_table(pyarrow.table(rows))

        async for batch in batches:
            group.add(batch)
            if len(group) >= _ROWS_PER_GROUP:
                write(group)
                group = ArrowTable(sources, "text")
        if len(group):
            write(group)
        with _naming(path):
            writer.close()
