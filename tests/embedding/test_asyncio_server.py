"""Use a connection in asyncio programs, where one task may open it and another close it."""

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
    """A connection that pytest-asyncio may open in one task and close in another."""
    async with connect(netns=lab.netns) as conn:
        yield conn


async def test_a_fixture_of_pytest_asyncio_works(connection: Connection) -> None:
    created = await connection.create(flows.tcp())
    assert (await connection.get(created)).id == created.id


async def test_a_test_gets_the_exception_unwrapped(connection: Connection) -> None:
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


async def test_a_cleanup_context_of_aiohttp_works(lab: Lab) -> None:
    app = application(lab)
    async with TestClient(TestServer(app)) as client:
        await app[CONNECTION].create(flows.tcp())
        response = await client.get("/count")
        assert await response.json() == 1
    assert app[CONNECTION]._session.requester.socket.closed
