"""The shared request socket, when a thread talks to the kernel for a task that has gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager

import anyio.to_thread
import pytest
from support.scripted import lone_socket
from support.waiting import until

from conntrack_aio.netlink.exchange import Outcome, Request
from conntrack_aio.netlink.requester import Requester

GET = Request("get", "it", 0x101, 0, b"\0\0\0\0")


@pytest.mark.asyncio
async def test_a_thread_that_is_about_to_send_leaves_its_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody says for it that no answer came."""
    socket, _ = lone_socket(lambda fake, asked: fake.ack(asked))
    begun, go_on = threading.Event(), threading.Event()
    using = socket.using

    @contextmanager
    def slowly() -> Generator[None]:
        begun.set()
        go_on.wait()
        with using():
            yield

    monkeypatch.setattr(socket, "using", slowly)
    requester = Requester(socket, offload=True, reply_timeout=1.0)
    taken: list[Outcome] = []
    task = asyncio.create_task(requester.run([GET], taker=taken.extend))
    try:
        await anyio.to_thread.run_sync(begun.wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not taken
    finally:
        go_on.set()
    await until(lambda: bool(taken))
    assert [outcome.error for outcome in taken] == [None]
    socket.close()
