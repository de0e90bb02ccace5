import pytest
from conntrack_aio import Connection, Flow
pytestmark = [pytest.mark.anyio, pytest.mark.kernel]

async def test_create(conn: Connection) -> None:
    f = await conn.create(Flow.tcp("10.0.0.1",1,"10.0.0.2",2,timeout=100))
    assert f.id
