"""Test that the fixture of event loops runs the tests on each of them."""

from __future__ import annotations

import asyncio

import pytest
import sniffio
import uvloop
from support.effort import QUICK

pytestmark = pytest.mark.anyio


async def test_the_event_loop_is_the_one_of_the_parameter(request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    assert sniffio.current_async_library() == ("trio" if name == "trio" else "asyncio")
    if name != "trio":
        is_uvloop = isinstance(asyncio.get_running_loop(), uvloop.Loop)
        assert is_uvloop == (name == "uvloop")


def test_every_event_loop_is_used(request: pytest.FixtureRequest) -> None:
    names = {
        item.callspec.id  # pyright: ignore[reportAttributeAccessIssue]
        for item in request.session.items
        if item.name.startswith("test_the_event_loop_is_the_one_of_the_parameter")
    }
    assert names == {"asyncio", "uvloop", "trio"} or (QUICK and len(names) == 1)
