"""Check how the answers to requests are received from a scripted kernel."""

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


def make_exchange(count: int = 2) -> Exchange:
    return Exchange([GET] * count, 1)


def send(script: Script | None, exchange: Exchange) -> tuple[NetlinkSocket, FakeSocket]:
    """Send requests over a new socket, and return both of its ends."""
    socket, fake = standalone_socket(script)
    socket.send(exchange.data)
    return socket, fake


def acknowledge(socket: FakeSocket, request: ReceivedRequest) -> None:
    socket.ack(request)


def test_all_answers_are_received() -> None:
    exchange = make_exchange(3)
    socket, _ = send(acknowledge, exchange)
    assert receive_answers(socket, exchange)
    assert exchange.done
    socket.close()


def test_nothing_is_read_if_no_answer_is_missing() -> None:
    exchange = make_exchange(0)
    socket, _ = standalone_socket()
    assert receive_answers(socket, exchange)
    socket.close()


def test_receiving_stops_when_the_queue_is_empty() -> None:
    exchange = make_exchange()
    socket, fake = send(None, exchange)
    fake.ack(fake.requests[1])
    assert not receive_answers(socket, exchange)
    assert [response.completion is None for response in exchange.responses] == [True, False]
    socket.close()


def test_a_lack_of_privilege_answers_the_remaining_requests() -> None:
    exchange = make_exchange(3)
    socket, fake = send(None, exchange)
    fake.ack(fake.requests[0], errno.EPERM)
    assert receive_answers(socket, exchange)
    socket.close()


def test_an_overrun_loses_answers_but_the_others_are_received() -> None:
    exchange = make_exchange()
    socket, fake = send(None, exchange)
    fake.fail(errno.ENOBUFS)
    fake.ack(fake.requests[1])
    assert not receive_answers(socket, exchange)
    assert exchange.lossy
    assert exchange.unreadable is None
    assert socket.overruns == 1
    assert [response.completion is None for response in exchange.responses] == [True, False]
    socket.close()


def test_a_read_error_is_raised() -> None:
    exchange = make_exchange()
    socket, fake = send(acknowledge, exchange)
    fake.fail(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        receive_answers(socket, exchange)
    socket.close()


def test_a_malformed_answer_is_raised_and_receiving_can_continue() -> None:
    exchange = make_exchange(1)
    socket, fake = send(None, exchange)
    fake.deliver(b"\xff" * 24)
    fake.ack(fake.requests[0])
    with pytest.raises(DecodeError):
        receive_answers(socket, exchange)
    assert receive_answers(socket, exchange)
    socket.close()


@pytest.mark.anyio
async def test_late_answers_are_waited_for() -> None:
    exchange = make_exchange()
    socket, fake = send(None, exchange)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            wait_for_answers, socket, exchange, 10, lambda: receive_answers(socket, exchange)
        )
        for request in fake.requests:
            await anyio.wait_all_tasks_blocked()
            fake.ack(request)
    assert exchange.done
    socket.close()


@pytest.mark.anyio
@pytest.mark.parametrize("lost", [False, True])
async def test_waiting_ends_after_the_timeout_or_at_once_if_answers_are_lost(lost: bool) -> None:
    exchange = make_exchange()
    socket, _ = send(None, exchange)
    if lost:
        exchange.note_lost()
    with anyio.fail_after(5):
        await wait_for_answers(socket, exchange, 1000 if lost else 0.01, lambda: None)
    assert not exchange.done
    socket.close()


def test_each_request_gets_a_response() -> None:
    def refuse_second(socket: FakeSocket, request: ReceivedRequest) -> None:
        if request.seq < 3:
            socket.ack(request, errno.ENOENT if request.seq == 2 else 0)

    socket, _ = standalone_socket(refuse_second)
    responses = send_and_receive(socket, make_exchange(3))
    assert [type(response.error) for response in responses] == [type(None), NotFound, NoReply]
    socket.close()


@pytest.mark.parametrize(
    ("code", "error"), [(0, None), (errno.ENOENT, NotFound), (None, NoReply)], ids=str
)
def test_an_exchange_on_its_own_socket_closes_the_socket(
    monkeypatch: pytest.MonkeyPatch, code: int | None, error: type[Exception] | None
) -> None:
    def answer(socket: FakeSocket, request: ReceivedRequest) -> None:
        if code is not None:
            socket.ack(request, code)

    socket, fake = standalone_socket(answer)
    monkeypatch.setattr(receiving, "open_socket", lambda protocol: socket)
    if error is None:
        assert len(run_exchange(12, make_exchange())) == 2
    else:
        with pytest.raises(error, match="get it"):
            run_exchange(12, make_exchange())
    assert fake.closed
