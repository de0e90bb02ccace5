"""Test what is logged of a socket, and that logging does not disturb the socket's user."""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.flows import destroy_event, message_payload, new_event, tcp
from support.hexdumps import parse_datagram, parse_hexdump
from support.lab import Lab
from support.scripted_kernel import FORGED_SENDER, ScriptedKernel, standalone_socket

from conntrack_aio import DecodeError, EventsLost, NotFound, connect
from conntrack_aio.netlink import messages, nfnetlink
from conntrack_aio.netlink.attributes import pack
from conntrack_aio.netlink.opening import open_socket
from conntrack_aio.netlink.socket import RECEIVE_SIZE
from conntrack_aio.testing import FakeSocket, ReceivedRequest
from conntrack_aio.trace import tracer
from conntrack_aio.trace.switch import LOGGER
from conntrack_aio.uapi.netlink import NETLINK
from conntrack_aio.uapi.nfnetlink_conntrack import CTA

logger = logging.getLogger(LOGGER)


class Recorder(logging.Handler):
    """A handler that keeps the texts of the records."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.levels: set[int] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        self.levels.add(record.levelno)

    @property
    def lines(self) -> list[str]:
        """The first line of each text."""
        return [text.split("\n")[0] for text in self.texts]


def summary(line: str) -> str:
    """Return the direction and the type in the first line of a message."""
    match = re.search("type=([^ ]*)", line)
    return f"{line.split()[0]} {match[1] if match else line.split()[-1]}"


@contextmanager
def added(handler: logging.Handler) -> Iterator[None]:
    """Switch the trace on, with this handler."""
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    handler = Recorder()
    with added(handler):
        yield handler


# What is logged


def test_datagrams_are_logged_with_direction_socket_sender_and_groups(recorder: Recorder) -> None:
    socket, raw = standalone_socket()
    where = f"fd={raw.fileno()}"
    event = new_event(tcp())
    socket.send(event)
    raw.deliver(event)
    raw.deliver(event, (0, 0b101))
    raw.deliver(event, (0, 1 << 31))
    raw.deliver(event, FORGED_SENDER)
    for _ in range(4):
        socket.receive()
    kind = f"len={len(event)} type=IPCTNL_MSG_CT_NEW flags=NLM_F_EXCL|NLM_F_CREATE"
    assert [line.split(" seq")[0] for line in recorder.lines] == [
        f"sent {where} {kind}",
        f"recv {where} {kind}",
        f"recv {where} group=NFNLGRP_CONNTRACK_NEW|NFNLGRP_CONNTRACK_DESTROY {kind}",
        f"recv {where} group=32 {kind}",
        f"recv {where} from=4711 {kind}",
    ]
    assert [parse_hexdump(text.split("\n")) for text in recorder.texts] == [event] * 5
    assert recorder.levels == {logging.DEBUG}
    socket.close()


def test_each_message_of_a_datagram_is_one_record(recorder: Recorder) -> None:
    socket, raw = standalone_socket()
    data = b"".join([new_event(tcp(1)), destroy_event(tcp(2)), new_event(tcp(3))])
    raw.deliver(data)
    socket.receive()
    assert [line.split()[3] for line in recorder.lines] == [
        "type=IPCTNL_MSG_CT_NEW",
        "type=IPCTNL_MSG_CT_DELETE",
        "type=IPCTNL_MSG_CT_NEW",
    ]
    assert parse_datagram(recorder.texts) == data
    socket.close()


def test_failed_system_calls_are_logged_with_the_unsent_datagram(recorder: Recorder) -> None:
    """An empty receive queue is not a failure."""
    socket, raw = standalone_socket()
    where = f"fd={raw.fileno()}"
    with pytest.raises(BlockingIOError):
        socket.receive()
    assert recorder.texts == []
    raw.fail(errno.ENOBUFS)
    with pytest.raises(OSError, match="No buffer space"):
        socket.receive()
    assert recorder.lines == [f"recv {where} ENOBUFS (No buffer space available)"]

    def refuse(data: bytes, address: object) -> int:
        raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))

    raw.sendto = refuse  # type: ignore[method-assign]
    with pytest.raises(OSError, match="Message too long"):
        socket.send(new_event(tcp()))
    assert recorder.lines[1] == f"send {where} EMSGSIZE (Message too long)"
    assert recorder.lines[2].startswith(f"unsent {where} len=")
    assert parse_hexdump(recorder.texts[2].split("\n")) == new_event(tcp())
    socket.close()


def test_an_error_without_an_errno_is_logged_with_its_text(recorder: Recorder) -> None:
    socket, raw = standalone_socket()
    where = f"fd={raw.fileno()}"

    def fail(*arguments: object) -> tuple[int, tuple[int, int]]:
        raise OSError("closed")

    raw.recvfrom_into = fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="closed"):
        socket.receive()
    socket.close()
    assert recorder.lines == [f"recv {where} error (closed)"]


def test_a_truncated_datagram_is_logged_as_far_as_it_was_read(recorder: Recorder) -> None:
    socket, raw = standalone_socket()
    raw.deliver(bytes(RECEIVE_SIZE + 1))
    with pytest.raises(DecodeError):
        socket.receive()
    assert recorder.lines[0].endswith("a message claims 0 bytes, 65536 are left")
    assert len(parse_hexdump(recorder.texts[0].split("\n"))) == RECEIVE_SIZE
    socket.close()


# Failures and changes of the trace itself


class FailingHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("no space on the device")


def test_a_failing_handler_does_not_disturb_the_socket(recorder: Recorder) -> None:
    with added(FailingHandler()):
        socket, raw = standalone_socket()
        socket.send(new_event(tcp()))
        raw.deliver(new_event(tcp()))
        assert socket.receive() == len(new_event(tcp()))
        socket.close()
    assert len(recorder.texts) == 2  # the other handler got both


def test_a_bug_in_the_trace_does_not_disturb_the_socket(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> Iterator[str]:
        raise RuntimeError("bug")

    monkeypatch.setattr(tracer, "render", fail)
    socket, raw = standalone_socket()
    raw.deliver(new_event(tcp()))
    assert socket.receive() == len(new_event(tcp()))
    (text,) = recorder.texts
    assert text.startswith(f"recv fd={raw.fileno()} could not be decoded: RuntimeError('bug')\n")
    assert parse_hexdump(text.split("\n")) == new_event(tcp())
    socket.close()


def test_the_level_is_read_when_a_socket_is_opened() -> None:
    before, _ = standalone_socket()
    handler = Recorder()
    with added(handler):
        during, _ = standalone_socket()
        before.send(b"")
        assert handler.texts == []
        during.send(b"")
        assert len(handler.texts) == 1
        logger.setLevel(logging.INFO)
        during.send(b"")
        assert len(handler.texts) == 1
    for socket in (before, during):
        socket.close()


@pytest.mark.anyio
async def test_all_datagrams_of_a_scripted_kernel_are_logged(
    recorder: Recorder, anyio_backend: tuple[str, dict[str, bool]]
) -> None:
    """The trace includes the datagrams of worker threads."""

    def answer(socket: FakeSocket, asked: ReceivedRequest) -> None:
        if asked.flags & 0x300:
            socket.reply(asked, 0x100, message_payload(tcp(1)))
            socket.reply(asked, 0x100, message_payload(tcp(2)))
            socket.done(asked)
        else:
            socket.ack(asked, errno.ENOENT)

    kernel = ScriptedKernel(answer)
    async with kernel.connect() as conn, conn.events() as stream:
        assert len(await conn.list()) == 2
        with pytest.raises(NotFound):
            await conn.delete(tcp())
        kernel.sockets[1].fail(errno.ENOBUFS)
        kernel.sockets[1].deliver(new_event(tcp(3)), (0, 1))
        events = [await anext(stream)]
        with pytest.raises(EventsLost):
            await anext(stream)
    assert [event.flow.orig for event in events] == [tcp(3).orig]
    assert [summary(line) for line in recorder.lines] == [
        "sent IPCTNL_MSG_CT_GET_STATS",
        "recv IPCTNL_MSG_CT_GET_STATS",
        "recv NLMSG_ERROR",
        "sent IPCTNL_MSG_CT_GET",
        "recv IPCTNL_MSG_CT_NEW",
        "recv IPCTNL_MSG_CT_NEW",
        "recv NLMSG_DONE",
        "sent IPCTNL_MSG_CT_DELETE",
        "recv NLMSG_ERROR",
        "recv available)",  # No buffer space
        "recv IPCTNL_MSG_CT_NEW",
    ]
    sent = [data for socket in kernel.sockets for data in socket.sent]
    logged = [text for text in recorder.texts if text.startswith("sent")]
    assert sorted(parse_hexdump(text.split("\n")) for text in logged) == sorted(sent)


@pytest.mark.kernel
@pytest.mark.anyio
async def test_all_messages_of_a_real_connection_are_logged(
    lab: Lab, recorder: Recorder, anyio_backend: tuple[str, dict[str, bool]]
) -> None:
    async with connect(netns=lab.netns) as conn, conn.events() as stream:
        created = await conn.create(tcp(mark=7), nat_src="192.0.2.1")
        event = await anext(stream)
        assert [flow.id for flow in await conn.list()] == [created.id]
        await conn.delete(created)
        with pytest.raises(NotFound):
            await conn.delete(created)
    texts = "\n".join(recorder.texts)
    assert [summary(line) for line in recorder.lines] == [
        "sent IPCTNL_MSG_CT_GET_STATS",
        "recv IPCTNL_MSG_CT_GET_STATS",
        "recv NLMSG_ERROR",
        # create, which also reads the entry back
        "sent IPCTNL_MSG_CT_NEW",
        "sent IPCTNL_MSG_CT_GET",
        "recv NLMSG_ERROR",
        "recv IPCTNL_MSG_CT_NEW",
        "recv NLMSG_ERROR",
        # the event, then the dump
        "recv IPCTNL_MSG_CT_NEW",
        "sent IPCTNL_MSG_CT_GET",
        "recv IPCTNL_MSG_CT_NEW",
        "recv NLMSG_DONE",
        # delete
        "sent IPCTNL_MSG_CT_DELETE",
        "recv NLMSG_ERROR",
        # delete the deleted entry: by its original tuple, then by its reply tuple
        "sent IPCTNL_MSG_CT_DELETE",
        "recv NLMSG_ERROR",
        "sent IPCTNL_MSG_CT_DELETE",
        "recv NLMSG_ERROR",
    ]
    assert recorder.lines[-1].endswith("error=-ENOENT (No such file or directory)")
    ports = [re.search(r" port=(\d+) ", line) for line in recorder.lines]
    assert len({match[1] for match in ports if match}) == 3  # requests, events, the dump
    assert all(ports)
    assert event.flow.orig == tcp().orig
    assert "group=NFNLGRP_CONNTRACK_NEW" in texts
    for line in (
        "\n  CTA_NAT_SRC\n    CTA_NAT_V4_MINIP 192.0.2.1\n",
        "\n  CTA_MARK 7\n",
        f"\n  CTA_ID {created.id} ({created.id:#x})\n",
        "type=IPCTNL_MSG_CT_GET flags=NLM_F_REQUEST|NLM_F_ACK|NLM_F_DUMP ",
        "type=NLMSG_DONE flags=NLM_F_MULTI ",
    ):
        assert line in texts
    assert not [line for line in texts.split("\n") if line.lstrip().startswith("!")]


@pytest.mark.kernel
def test_the_extended_acknowledgement_is_logged(lab: Lab, recorder: Recorder) -> None:
    """For a mask that is too short, the kernel sends the reason and the attribute's offset."""
    socket = lab.run(lambda: open_socket(NETLINK.NETFILTER))
    inside = pack(CTA.MARK, bytes(4)) + pack(CTA.MARK_MASK, b"\x01")
    socket.send(messages.pack(0x101, 0x5, 1, nfnetlink.pack(2) + inside))
    socket.receive()
    socket.close()
    sent, received = recorder.texts
    assert "\n  CTA_MARK_MASK 0x01 (1 bytes where 4 are expected)\n" in sent
    assert " error=-ERANGE (" in received
    match = re.search(r"\n  NLMSGERR_ATTR_MSG '.*'\n  NLMSGERR_ATTR_OFFS (\d+) ", received)
    assert match, received
    assert parse_hexdump(sent.split("\n"))[int(match[1]) :].startswith(pack(CTA.MARK_MASK, b"\x01"))
