"""Test Arrow tables of this machine's kernel, as other libraries read them."""

from __future__ import annotations

import duckdb
import polars
import pytest
from support import flows

from conntrack_aio import Connection, Match

pytestmark = [pytest.mark.anyio, pytest.mark.kernel]

NAMES = ("orig_src", "orig_dport", "mark", "id")


async def test_arrow_tables_have_the_flows_of_the_table(conn: Connection) -> None:
    await flows.fill(conn, (flows.tcp(number, mark=number % 3) for number in range(2500)))
    expected = [
        (str(flow.orig.src), flow.orig.dport, flow.mark, flow.id) async for flow in conn.dump()
    ]
    table = await conn.arrow(None, *NAMES, addresses="text")
    assert polars.DataFrame(table).rows() == expected
    assert len(table) == sum(map(len, table.batches)) == 2500
    assert len(table.batches) > 1
    marked = await conn.arrow(Match(mark=2), addresses="text")
    found = duckdb.sql("select orig_src, mark, protocol, state from marked").fetchall()
    of_mark = [(src, mark, "tcp", "ESTABLISHED") for src, _, mark, _ in expected if mark == 2]
    assert sorted(found) == sorted(of_mark)
    assert len(marked) == len(of_mark)
    assert conn.client_statistics().open_dumps == 0


async def test_wrong_arguments_are_refused(conn: Connection) -> None:
    with pytest.raises(ValueError, match="unknown column 'no'"):
        await conn.arrow(None, "no")
    with pytest.raises(TypeError, match="match must be a Match"):
        await conn.arrow("orig_src")  # type: ignore[arg-type]
    assert conn.client_statistics().open_dumps == 0
