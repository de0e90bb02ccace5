"""Inside programs that are asyncio's own: what one task opens another closes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from support import flows
from support.lab import Lab

from conntrack_aio import Connection, NotFound, connect

pytestmark = [pytest.mark.asyncio, pytest.mark.kernel]

CONNECTION = web.AppKey("connection", Connection)


@pytest_asyncio.fixture
async def connection(lab: Lab) -> AsyncIterator[Connection]:
    """Set up in one task and torn down in another, as pytest-asyncio may do."""
    async with connect(netns=lab.netns) as conn:
        yield conn


async def test_a_fixture_of_pytest_asyncio(connection: Connection) -> None:
    made = await connection.create(flows.tcp())
    assert (await connection.get(made)).id == made.id


async def test_an_exception_reaches_its_test_unwrapped(connection: Connection) -> None:
    with pytest.raises(NotFound):
        await connection.get(flows.tcp())


def application(lab: Lab) -> web.Application:
    async def conntrack(app: web.Application) -> AsyncIterator[None]:
        async with connect(netns=lab.netns) as conn:
            app[CONNECTION] = conn
            yield

    async def count(request: web.Request) -> web.Response:
        return web.json_response(await request.app[CONNECTION].count())

    app = web.Application()
    app.cleanup_ctx.append(conntrack)
    app.router.add_get("/count", count)
    return app


async def test_a_cleanup_context_of_aiohttp(lab: Lab) -> None:
    app = application(lab)
    async with TestClient(TestServer(app)) as client:
        await app[CONNECTION].create(flows.tcp())
        answer = await client.get("/count")
        assert await answer.json() == 1
    assert app[CONNECTION]._session.requester.socket.closed
