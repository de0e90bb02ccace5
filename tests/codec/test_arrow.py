"""Arrow tables have the values of the columns, as other libraries read them."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import duckdb
import polars
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.captured import CAPTURED
from support.codec_cases import BOTH_TUPLES, CASES, attr, nest

from conntrack_aio import ArrowTable, ColumnBatch, Flow
from conntrack_aio.codec.arrow import TIMES, Addresses, bitmap_of
from conntrack_aio.codec.column_collector import ColumnCollector, MessageContext
from conntrack_aio.codec.column_fields import select_columns
from conntrack_aio.codec.decoder import Datagram, Decoder
from conntrack_aio.codec.event_messages import decode_event
from conntrack_aio.codec.messages import CT_NEW, decode_flow
from conntrack_aio.model.client_statistics import ClientStatistics
from conntrack_aio.netlink import messages


def message(attributes: bytes) -> bytes:
    return messages.pack(CT_NEW, 2, 1, b"\2\0\0\0" + attributes, 7)


FLOWS = [capture.data for capture in CAPTURED if capture.event is None]
FLOWS += [message(case.data) for case in CASES if isinstance(case.object, Flow)]
FLOWS += [message(BOTH_TUPLES + nest(5, attr(1, b"\xff\xfe\0")))]
EVENTS = [capture.data for capture in CAPTURED if capture.event is not None]


def batches_of(
    decoder: Decoder[Any],
    data: Sequence[bytes],
    addresses: Addresses = "bytes",
    names: tuple[str, ...] = (),
) -> list[ColumnBatch]:
    context = MessageContext(lambda *_: True, lambda *_: None, ClientStatistics())
    collector: ColumnCollector[Any] = ColumnCollector(decoder, names, addresses, None, context)
    for each in data:
        collector.add_datagram(Datagram(each))
        if collector.rows > 20:
            collector.flush()
    collector.flush()
    return [result for result in collector.results if isinstance(result, ColumnBatch)]


def table_of(batches: Sequence[ColumnBatch], addresses: Addresses = "bytes") -> ArrowTable:
    table = ArrowTable(select_columns(Flow, batches[0].names), addresses)
    for batch in batches:
        table.add(batch)
    return table


def expected_of(batch: ColumnBatch) -> dict[str, list[Any]]:
    """Return the values that pyarrow has for a batch."""
    columns: dict[str, list[Any]] = dict(batch.to_dict())
    for name, values in columns.items():
        if name == "labels":
            columns[name] = [None if v is None else bits(v) for v in values]
        elif name in TIMES:
            columns[name] = [None if v is None else signed(v) for v in values]
        else:
            columns[name] = [
                v.encode(errors="surrogateescape").decode(errors="replace")
                if isinstance(v, str)
                else v
                for v in values
            ]
    return columns


def bits(number: int) -> list[int]:
    return [bit for bit in range(128) if number >> bit & 1]


def signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def read(table: pyarrow.Table) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for name in table.column_names:
        column = table.column(name)
        columns[name] = (column.cast("int64") if name in TIMES else column).to_pylist()
    return columns


@pytest.mark.parametrize("addresses", ["bytes", "text"])
@pytest.mark.parametrize(
    ("decoder", "data"), [(decode_flow, FLOWS), (decode_event, EVENTS)], ids=["flows", "events"]
)
def test_a_batch_has_the_same_values_in_arrow(
    decoder: Decoder[Any], data: list[bytes], addresses: Addresses
) -> None:
    for _ in range(2):
        for batch in batches_of(decoder, data, addresses):
            table = pyarrow.table(batch)
            table.validate(full=True)
            assert tuple(table.column_names) == batch.names
            found = read(table)
            assert found == expected_of(batch)
            batch.drop_rows()
            assert expected_of(batch) == found


def test_a_table_has_the_rows_of_its_batches() -> None:
    batches = batches_of(decode_flow, FLOWS * 3)
    assert len(batches) > 2
    expected = [expected_of(batch) for batch in batches]
    table = table_of(batches)
    assert len(table) == sum(map(len, batches))
    assert list(table.batches) == batches
    assert table.names == batches[0].names
    assert repr(table) == f"<ArrowTable: {len(table)} rows, {len(table.names)} columns>"
    for _ in range(2):  # it can be read any number of times
        found = pyarrow.table(table)
        found.validate(full=True)
        assert read(found) == {
            name: [value for each in expected for value in each[name]] for name in table.names
        }


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_table_cannot_be_duplicated(duplicate: Callable[[object], Any]) -> None:
    table = table_of(batches_of(decode_flow, FLOWS))
    with pytest.raises(
        TypeError, match=r"an ArrowTable .* pyarrow.table\(\) makes a table that can"
    ):
        duplicate(table)
    copied = pickle.loads(pickle.dumps(pyarrow.table(table)))
    assert copied == pyarrow.table(table)


def test_a_table_without_rows_has_columns() -> None:
    table = ArrowTable(select_columns(Flow, ()), "text")
    assert len(table) == 0
    found = pyarrow.table(table)
    assert found.num_rows == 0
    assert found.schema.field("orig_src").type == pyarrow.string()
    assert found.schema.field("start").type == pyarrow.timestamp("ns")


def test_other_libraries_read_tables_and_batches() -> None:
    batches = batches_of(decode_flow, FLOWS, "text", ("protocol", "state", "orig_src", "bytes"))
    flows = table_of(batches, "text")
    expected = [row for batch in batches for row in zip(*batch.to_dict().values(), strict=True)]
    assert polars.DataFrame(flows).rows() == expected
    assert duckdb.sql("select * from flows").fetchall() == expected
    batch = batches[0]
    assert duckdb.sql("select count(*) from batch").fetchall() == [(len(batch),)]


def test_numbers_and_addresses_are_not_copied() -> None:
    (batch, *_) = batches_of(decode_flow, FLOWS, names=("mark", "orig_src", "start"))
    found = pyarrow.table(batch)
    for name in batch.names:
        start = pyarrow.py_buffer(batch[name].data).address
        assert found.column(name).chunk(0).buffers()[1].address == start


@given(st.lists(st.sampled_from([0, 1]), min_size=1))
def test_bitmaps_have_the_first_row_in_the_lowest_bit(validity: list[int]) -> None:
    bitmap = bitmap_of(validity)
    assert len(bitmap) == (len(validity) + 7) // 8
    number = int.from_bytes(bitmap, "little")
    assert [number >> row & 1 for row in range(len(validity))] == validity


def test_the_error_says_what_to_install_without_nanoarrow() -> None:
    code = (
        "import sys; sys.modules['nanoarrow'] = None\n"
        "from conntrack_aio.codec.arrow_table import ArrowTable\n"
        "try:\n    ArrowTable({}, 'bytes')\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ("Arrow needs the package nanoarrow: pip install nanoarrow\n")
