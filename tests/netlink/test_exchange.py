"""The rules of an exchange, each without a kernel."""

from __future__ import annotations

import errno
import struct

import pytest

from conntrack_aio import (
    DecodeError,
    InvalidRequest,
    KernelError,
    NoReply,
    NotFound,
    NotSupported,
    PermissionDenied,
)
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.exchange import (
    DumpExchange,
    Exchange,
    Reply,
    Request,
    Response,
    SequenceNumbers,
)
from conntrack_aio.netlink.messages import Failure, Message

MULTI = 2
GET = Request("get", "it", 0x101, 0, b"abcd")


def ack(seq: int, code: int = 0) -> bytes:
    payload = struct.pack("=i", code) + struct.pack("=IHHII", 20, 0x101, 5, seq, 0)
    return messages.pack(2, 0x100, seq, payload)


def done(seq: int, code: int = 0) -> bytes:
    return messages.pack(3, MULTI, seq, struct.pack("=i", code))


def entry(seq: int, payload: bytes = b"data", flags: int = MULTI) -> bytes:
    return messages.pack(0x100, flags, seq, payload)


def make_exchange(count: int = 1, seq: int = 10) -> Exchange:
    return Exchange([GET] * count, seq)


def feed(exchange: Exchange, *datagrams: bytes) -> None:
    for data in datagrams:
        exchange.feed(data, len(data))


# Requests


def test_requests_are_one_datagram_and_ask_for_acknowledgements() -> None:
    flagged = GET._replace(flags=0x600, payload=b"abcde")
    data = Exchange([GET, flagged], 10).data
    assert data == (
        struct.pack("=IHHII", 20, 0x101, 5, 10, 0)
        + b"abcd"
        + struct.pack("=IHHII", 21, 0x101, 0x605, 11, 0)
        + b"abcde\0\0\0"
    )


def test_a_multipart_answer_without_done_ends_with_its_acknowledgement() -> None:
    exchange = make_exchange()
    feed(exchange, entry(10))
    assert not exchange.done
    feed(exchange, ack(10))
    assert exchange.done
    assert exchange.responses[0].result() == [Reply(0x100, MULTI, b"data")]


def test_an_acknowledgement_alone_is_an_answer() -> None:
    exchange = make_exchange()
    feed(exchange, ack(10))
    assert exchange.done
    assert exchange.responses[0].result() == []
    assert exchange.responses[0].error is None


def test_done_is_an_answer() -> None:
    exchange = make_exchange()
    feed(exchange, entry(10) + done(10))
    assert exchange.done
    assert len(exchange.responses[0].result()) == 1


def test_an_error_belongs_to_its_request() -> None:
    exchange = make_exchange(3)
    feed(exchange, ack(10), ack(11, -errno.ENOENT), ack(12))
    assert exchange.done
    assert [type(response.error) for response in exchange.responses] == [
        type(None),
        NotFound,
        type(None),
    ]
    with pytest.raises(NotFound, match="get it"):
        exchange.responses[1].result()


def test_an_error_may_mean_another() -> None:
    request = GET._replace(
        hints={errno.EOPNOTSUPP: "it is missing", errno.EINVAL: "never"},
        meanings={errno.EINVAL: errno.EOPNOTSUPP},
    )
    exchange = Exchange([request, request], 10)
    feed(exchange, ack(10, -errno.EINVAL), ack(11, -errno.ENOENT))
    renamed, plain = (response.error for response in exchange.responses)
    assert isinstance(renamed, NotSupported)
    assert (renamed.errno, renamed.hint) == (errno.EOPNOTSUPP, "it is missing")
    assert isinstance(plain, NotFound)


def test_answers_are_matched_by_their_number_in_any_order() -> None:
    exchange = make_exchange(2)
    feed(exchange, entry(11, b"two") + entry(10, b"one"), ack(11), ack(10))
    assert [response.result()[0].payload for response in exchange.responses] == [b"one", b"two"]


def test_a_reply_outlives_the_buffer() -> None:
    exchange = make_exchange()
    buffer = bytearray(entry(10) + ack(10))
    exchange.feed(buffer, len(buffer))
    buffer[:] = bytes(len(buffer))
    assert exchange.responses[0].result()[0].payload == b"data"


def test_only_what_was_received_counts() -> None:
    exchange = make_exchange(2)
    buffer = ack(10) + ack(11)
    exchange.feed(buffer, len(ack(10)))
    assert [response.failure for response in exchange.responses] == [Failure(0), None]


@pytest.mark.parametrize("seq", [0, 9, 12, 0xFFFFFFFF])
def test_stray_replies_are_counted_and_dropped(seq: int) -> None:
    exchange = make_exchange(2)
    feed(exchange, entry(seq) + ack(seq, -errno.EPERM) + done(seq))
    assert exchange.stray_replies == 3
    assert not exchange.done
    assert [response.failure for response in exchange.responses] == [None, None]
    assert [response.replies for response in exchange.responses] == [[], []]


def test_the_first_answer_counts() -> None:
    exchange = make_exchange(2)
    feed(exchange, ack(10), ack(10, -errno.ENOENT))
    assert not exchange.done
    assert exchange.responses[0].error is None


def test_garbage_is_a_decode_error_and_the_answers_before_it_count() -> None:
    exchange = make_exchange(2)
    with pytest.raises(DecodeError):
        feed(exchange, ack(10) + b"\1\2\3")
    assert [response.failure for response in exchange.responses] == [Failure(0), None]


def test_no_answer_is_no_reply() -> None:
    exchange = make_exchange()
    exchange.note_drained()
    assert not exchange.done
    with pytest.raises(NoReply, match="get it"):
        exchange.responses[0].result()


def test_lack_of_privilege_ends_the_datagram() -> None:
    exchange = make_exchange(3)
    feed(exchange, ack(10, -errno.EPERM))
    assert not exchange.done
    exchange.note_drained()
    assert exchange.done
    assert {type(response.error) for response in exchange.responses} == {PermissionDenied}


@pytest.mark.parametrize("code", [0, -errno.ENOENT, -errno.EACCES])
def test_another_error_does_not(code: int) -> None:
    exchange = make_exchange(2)
    feed(exchange, ack(10, code))
    exchange.note_drained()
    assert not exchange.done
    assert isinstance(exchange.responses[1].error, NoReply)


def test_an_answer_that_came_is_not_overruled() -> None:
    exchange = make_exchange(3)
    feed(exchange, ack(10, -errno.EPERM), ack(11))
    exchange.note_drained()
    errors = [type(response.error) for response in exchange.responses]
    assert errors == [PermissionDenied, type(None), PermissionDenied]


# Errors


def test_errors_name_the_request_and_its_hint() -> None:
    request = Request("create", "a flow", 0x100, 0, b"", {errno.EINVAL: "Do better"})
    refused = Response(request, failure=Failure(errno.EINVAL, "bad mark", 20)).error
    assert isinstance(refused, InvalidRequest)
    assert (refused.request, refused.detail, refused.hint) == (
        "create a flow",
        "bad mark",
        "Do better",
    )
    other = request.error(Failure(errno.EPERM))
    assert "CAP_NET_ADMIN" in other.hint


def test_a_subject_may_be_absent() -> None:
    assert str(GET) == "get it"
    assert str(GET._replace(subject=None)) == "get"


# Numbers


def test_sequence_numbers_follow_each_other() -> None:
    sequence = SequenceNumbers()
    assert [sequence.reserve(1), sequence.reserve(3), sequence.reserve(1)] == [1, 2, 5]


@pytest.mark.parametrize("count", [1, 2, 64])
@pytest.mark.parametrize("left", [0, 1, 2, 63, 64, 65])
def test_sequence_numbers_are_32_bits_and_never_0(count: int, left: int) -> None:
    sequence = SequenceNumbers()
    sequence._last = 0xFFFFFFFF - left
    for _ in range(3):
        first = sequence.reserve(count)
        assert first > 0
        assert first + count - 1 <= 0xFFFFFFFF
        Exchange([GET] * count, first)  # the numbers can be packed


def test_an_exchange_at_the_end_of_the_numbers() -> None:
    exchange = make_exchange(2, 0xFFFFFFFE)
    feed(exchange, ack(0xFFFFFFFE), ack(0), ack(0xFFFFFFFF))
    assert exchange.done
    assert exchange.stray_replies == 1


# Dumps


def dump() -> DumpExchange:
    return DumpExchange(GET, 1)


def entries(walk: DumpExchange, data: bytes) -> list[Message]:
    """Return the entries in a datagram, as a reader of dumps does."""
    taken: list[Message] = []
    try:
        for message in messages.walk(data, len(data)):
            if walk.takes(data, message):
                taken.append(message)
    except DecodeError as error:
        walk.broken(error)
    return taken


def test_the_request_of_a_dump() -> None:
    assert dump().data == struct.pack("=IHHII", 20, 0x101, 0x305, 1, 0) + b"abcd"


def test_a_dump_ends_with_done() -> None:
    walk = dump()
    first = entry(1) + entry(1, b"more")
    assert [(m.start, m.end) for m in entries(walk, first)] == [(16, 20), (36, 40)]
    assert walk.failure is None
    last = entry(1) + done(1)
    assert len(entries(walk, last)) == 1
    assert walk.failure == Failure(0)
    assert not walk.interrupted


@pytest.mark.parametrize(
    ("ending", "failure"),
    [
        (ack(1), Failure(0)),
        (ack(1, -errno.EBUSY), Failure(errno.EBUSY)),
        (done(1, -errno.EIO), Failure(errno.EIO)),
        (messages.pack(3, MULTI, 1, b""), Failure(0)),
    ],
    ids=["an acknowledgement", "an error", "done with a code", "done without"],
)
def test_a_dump_ends_otherwise(ending: bytes, failure: Failure) -> None:
    walk = dump()
    assert entries(walk, ending) == []
    assert walk.failure == failure


@pytest.mark.parametrize(
    "garbage", [b"\1\2\3", bytes(16), messages.pack(2, 0, 1, b"")], ids=["short", "zeros", "error"]
)
def test_a_dump_ends_with_garbage(garbage: bytes) -> None:
    walk = dump()
    data = entry(1) + garbage
    assert len(entries(walk, data)) == 1
    assert walk.failure is not None
    assert walk.failure.errno == errno.EBADMSG
    refused = GET.error(walk.failure)
    assert type(refused) is KernelError
    assert refused.detail


def test_stray_replies_in_a_dump() -> None:
    walk = dump()
    data = entry(0) + entry(2) + done(2) + ack(2, -1)
    assert entries(walk, data) == []
    assert (walk.stray_replies, walk.failure) == (4, None)


@pytest.mark.parametrize("where", [entry(1, flags=MULTI | 0x10), messages.pack(3, 0x12, 1, b"")])
def test_a_dump_that_was_interrupted(where: bytes) -> None:
    walk = dump()
    entries(walk, where)
    assert walk.interrupted


def test_another_dump_was_interrupted() -> None:
    walk = dump()
    data = entry(2, flags=0x10)
    entries(walk, data)
    assert not walk.interrupted


def test_what_was_lost_is_not_guessed() -> None:
    exchange = make_exchange(2)
    feed(exchange, ack(10, -errno.EPERM))
    exchange.lossy = True
    exchange.note_drained()
    assert exchange.responses[1].failure is None


def test_an_exchange_that_its_caller_released_is_not_sent() -> None:
    received: list[Response] = []
    exchange = Exchange([GET], 10, received.extend)
    exchange.release()
    assert not exchange.acquire()
    assert not received


def test_the_last_release_completes_it() -> None:
    received: list[Response] = []
    exchange = Exchange([GET, GET], 10, received.extend)
    assert exchange.acquire()
    exchange.sent = True
    exchange.release()
    feed(exchange, ack(10))
    assert not received
    exchange.release()
    assert [type(response.error) for response in received] == [type(None), NoReply]
