"""Receiving answers, which requests of all kinds share; with a scripted kernel."""

from __future__ import annotations

import errno

import anyio
import pytest
from support.scripted_kernel import Script, standalone_socket

from conntrack_aio.errors import DecodeError, NoReply, NotFound
from conntrack_aio.netlink import receiving
from conntrack_aio.netlink.exchange import Exchange, Request
from conntrack_aio.netlink.receiving import (
    receive_answers,
    run_exchange,
    send_and_receive,
    wait_for_answers,
)
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.testing import FakeSocket, ReceivedRequest

GET = Request("get", "it", 0x101, 0, b"\0\0\0\0")


def exchange(count: int = 2) -> Exchange:
    return Exchange([GET] * count, 1)


def sent(script: Script | None, requests: Exchange) -> tuple[NetlinkSocket, FakeSocket]:
    """Return a socket over which the requests were sent."""
    socket, fake = standalone_socket(script)
    socket.send(requests.data)
    return socket, fake


def acknowledge(socket: FakeSocket, request: ReceivedRequest) -> None:
    socket.ack(request)


def test_all_answers_are_received() -> None:
    requests = exchange(3)
    socket, _ = sent(acknowledge, requests)
    assert receive_answers(socket, requests)
    assert requests.done
    socket.close()


def test_nothing_is_read_for_requests_that_are_answered() -> None:
    requests = exchange(0)
    socket, _ = standalone_socket()
    assert receive_answers(socket, requests)
    socket.close()


def test_an_empty_queue_ends_the_answers() -> None:
    requests = exchange()
    socket, fake = sent(None, requests)
    fake.ack(fake.requests[1])
    assert not receive_answers(socket, requests)
    assert [response.failure is None for response in requests.responses] == [True, False]
    socket.close()


def test_a_lack_of_privilege_answers_the_rest() -> None:
    requests = exchange(3)
    socket, fake = sent(None, requests)
    fake.ack(fake.requests[0], errno.EPERM)
    assert receive_answers(socket, requests)
    socket.close()


def test_an_overrun_loses_answers_and_the_others_count() -> None:
    requests = exchange()
    socket, fake = sent(None, requests)
    fake.fail(errno.ENOBUFS)
    fake.ack(fake.requests[1])
    assert not receive_answers(socket, requests)
    assert requests.lossy
    assert requests.unreadable is None
    assert socket.overruns == 1
    assert [response.failure is None for response in requests.responses] == [True, False]
    socket.close()


def test_a_socket_that_can_not_be_read() -> None:
    requests = exchange()
    socket, fake = sent(acknowledge, requests)
    fake.fail(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        receive_answers(socket, requests)
    socket.close()


def test_garbage_is_raised_and_receiving_can_continue() -> None:
    requests = exchange(1)
    socket, fake = sent(None, requests)
    fake.deliver(b"\xff" * 24)
    fake.ack(fake.requests[0])
    with pytest.raises(DecodeError):
        receive_answers(socket, requests)
    assert receive_answers(socket, requests)
    socket.close()


@pytest.mark.anyio
async def test_late_answers_are_waited_for() -> None:
    requests = exchange()
    socket, fake = sent(None, requests)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            wait_for_answers, socket, requests, 10, lambda: receive_answers(socket, requests)
        )
        for request in fake.requests:
            await anyio.wait_all_tasks_blocked()
            fake.ack(request)
    assert requests.done
    socket.close()


@pytest.mark.anyio
@pytest.mark.parametrize("lost", [False, True])
async def test_waiting_ends_after_the_timeout_or_at_once_if_answers_are_lost(lost: bool) -> None:
    requests = exchange()
    socket, _ = sent(None, requests)
    if lost:
        requests.note_lost()
    with anyio.fail_after(5):
        await wait_for_answers(socket, requests, 1000 if lost else 0.01, lambda: None)
    assert not requests.done
    socket.close()


def test_a_response_for_each_request() -> None:
    def refuse_second(socket: FakeSocket, request: ReceivedRequest) -> None:
        if request.seq < 3:
            socket.ack(request, errno.ENOENT if request.seq == 2 else 0)

    socket, _ = standalone_socket(refuse_second)
    responses = send_and_receive(socket, exchange(3))
    assert [type(response.error) for response in responses] == [type(None), NotFound, NoReply]
    socket.close()


@pytest.mark.parametrize(
    ("code", "error"), [(0, None), (errno.ENOENT, NotFound), (None, NoReply)], ids=str
)
def test_an_exchange_on_a_socket_of_its_own(
    monkeypatch: pytest.MonkeyPatch, code: int | None, error: type[Exception] | None
) -> None:
    def answer(socket: FakeSocket, request: ReceivedRequest) -> None:
        if code is not None:
            socket.ack(request, code)

    socket, fake = standalone_socket(answer)
    monkeypatch.setattr(receiving, "open_socket", lambda protocol: socket)
    if error is None:
        assert len(run_exchange(12, exchange())) == 2
    else:
        with pytest.raises(error, match="get it"):
            run_exchange(12, exchange())
    assert fake.closed
