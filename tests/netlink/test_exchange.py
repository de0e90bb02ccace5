"""Check each rule of an exchange of requests and answers, without a kernel."""

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
from conntrack_aio.netlink.messages import Completion, Message

MULTI = 2  # NLM_F_MULTI; 0x10 is NLM_F_DUMP_INTR
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


# Answers to requests


def test_requests_share_one_datagram_and_request_acknowledgements() -> None:
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


def test_an_acknowledgement_alone_answers_a_request() -> None:
    exchange = make_exchange()
    feed(exchange, ack(10))
    assert exchange.done
    assert exchange.responses[0].result() == []
    assert exchange.responses[0].error is None


def test_done_answers_a_request() -> None:
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


def test_a_request_can_replace_an_errno_by_a_clearer_one() -> None:
    request = GET._replace(
        hints={errno.EOPNOTSUPP: "it is missing", errno.EINVAL: "never"},
        meanings={errno.EINVAL: errno.EOPNOTSUPP},
    )
    exchange = Exchange([request, request], 10)
    feed(exchange, ack(10, -errno.EINVAL), ack(11, -errno.ENOENT))
    replaced, unchanged = (response.error for response in exchange.responses)
    assert isinstance(replaced, NotSupported)
    assert (replaced.errno, replaced.hint) == (errno.EOPNOTSUPP, "it is missing")
    assert isinstance(unchanged, NotFound)


def test_answers_in_any_order_are_matched_by_sequence_number() -> None:
    exchange = make_exchange(2)
    feed(exchange, entry(11, b"two") + entry(10, b"one"), ack(11), ack(10))
    assert [response.result()[0].payload for response in exchange.responses] == [b"one", b"two"]


def test_a_reply_remains_valid_after_the_buffer_is_reused() -> None:
    exchange = make_exchange()
    buffer = bytearray(entry(10) + ack(10))
    exchange.feed(buffer, len(buffer))
    buffer[:] = bytes(len(buffer))
    assert exchange.responses[0].result()[0].payload == b"data"


def test_only_the_received_part_of_the_buffer_is_read() -> None:
    exchange = make_exchange(2)
    buffer = ack(10) + ack(11)
    exchange.feed(buffer, len(ack(10)))
    assert [response.completion for response in exchange.responses] == [Completion(0), None]


@pytest.mark.parametrize("seq", [0, 9, 12, 0xFFFFFFFF])
def test_stray_replies_are_counted_and_dropped(seq: int) -> None:
    exchange = make_exchange(2)
    feed(exchange, entry(seq) + ack(seq, -errno.EPERM) + done(seq))
    assert exchange.stray_replies == 3
    assert not exchange.done
    assert [response.completion for response in exchange.responses] == [None, None]
    assert [response.replies for response in exchange.responses] == [[], []]


def test_only_the_first_answer_to_a_request_counts() -> None:
    exchange = make_exchange(2)
    feed(exchange, ack(10), ack(10, -errno.ENOENT))
    assert not exchange.done
    assert exchange.responses[0].error is None


def test_a_malformed_message_is_an_error_and_the_answers_before_it_count() -> None:
    exchange = make_exchange(2)
    with pytest.raises(DecodeError):
        feed(exchange, ack(10) + b"\1\2\3")
    assert [response.completion for response in exchange.responses] == [Completion(0), None]


def test_a_request_without_an_answer_raises_no_reply() -> None:
    exchange = make_exchange()
    exchange.note_drained()
    assert not exchange.done
    with pytest.raises(NoReply, match="get it"):
        exchange.responses[0].result()


def test_a_lack_of_privilege_answers_the_rest_of_the_datagram() -> None:
    exchange = make_exchange(3)
    feed(exchange, ack(10, -errno.EPERM))
    assert not exchange.done
    exchange.note_drained()
    assert exchange.done
    assert {type(response.error) for response in exchange.responses} == {PermissionDenied}


@pytest.mark.parametrize("code", [0, -errno.ENOENT, -errno.EACCES])
def test_any_other_error_does_not_answer_the_rest_of_the_datagram(code: int) -> None:
    exchange = make_exchange(2)
    feed(exchange, ack(10, code))
    exchange.note_drained()
    assert not exchange.done
    assert isinstance(exchange.responses[1].error, NoReply)


def test_a_lack_of_privilege_does_not_replace_received_answers() -> None:
    exchange = make_exchange(3)
    feed(exchange, ack(10, -errno.EPERM), ack(11))
    exchange.note_drained()
    errors = [type(response.error) for response in exchange.responses]
    assert errors == [PermissionDenied, type(None), PermissionDenied]


# Errors


def test_an_error_has_the_text_and_the_hint_of_its_request() -> None:
    request = Request("create", "a flow", 0x100, 0, b"", {errno.EINVAL: "Do better"})
    refused = Response(request, completion=Completion(errno.EINVAL, "bad mark", 20)).error
    assert isinstance(refused, InvalidRequest)
    assert (refused.request, refused.detail, refused.hint) == (
        "create a flow",
        "bad mark",
        "Do better",
    )
    other = request.error(Completion(errno.EPERM))
    assert "CAP_NET_ADMIN" in other.hint


def test_the_text_of_a_request_may_have_no_subject() -> None:
    assert str(GET) == "get it"
    assert str(GET._replace(subject=None)) == "get"


# Sequence numbers


def test_sequence_numbers_are_consecutive() -> None:
    sequence = SequenceNumbers()
    assert [sequence.reserve(1), sequence.reserve(3), sequence.reserve(1)] == [1, 2, 5]


@pytest.mark.parametrize("count", [1, 2, 64])
@pytest.mark.parametrize("left", [0, 1, 2, 63, 64, 65])
def test_sequence_numbers_have_32_bits_and_are_never_0(count: int, left: int) -> None:
    sequence = SequenceNumbers()
    sequence._last = 0xFFFFFFFF - left
    for _ in range(3):
        first = sequence.reserve(count)
        assert first > 0
        assert first + count - 1 <= 0xFFFFFFFF
        Exchange([GET] * count, first)  # the numbers can be packed


def test_an_exchange_does_not_wrap_its_sequence_numbers() -> None:
    exchange = make_exchange(2, 0xFFFFFFFE)
    feed(exchange, ack(0xFFFFFFFE), ack(0), ack(0xFFFFFFFF))
    assert exchange.done
    assert exchange.stray_replies == 1


# Dumps


def make_dump() -> DumpExchange:
    return DumpExchange(GET, 1)


def take_entries(dump: DumpExchange, data: bytes) -> list[Message]:
    """Return the messages with entries of the dump in a datagram."""
    entries: list[Message] = []
    try:
        for message in messages.walk(data, len(data)):
            if dump.accepts(data, message):
                entries.append(message)
    except DecodeError as error:
        dump.break_off(error)
    return entries


def test_a_dump_sends_one_request() -> None:
    assert make_dump().data == struct.pack("=IHHII", 20, 0x101, 0x305, 1, 0) + b"abcd"


def test_a_dump_ends_with_done() -> None:
    dump = make_dump()
    first = entry(1) + entry(1, b"more")
    assert [(m.start, m.end) for m in take_entries(dump, first)] == [(16, 20), (36, 40)]
    assert dump.completion is None
    last = entry(1) + done(1)
    assert len(take_entries(dump, last)) == 1
    assert dump.completion == Completion(0)
    assert not dump.interrupted


@pytest.mark.parametrize(
    ("ending", "completion"),
    [
        (ack(1), Completion(0)),
        (ack(1, -errno.EBUSY), Completion(errno.EBUSY)),
        (done(1, -errno.EIO), Completion(errno.EIO)),
        (messages.pack(3, MULTI, 1, b""), Completion(0)),
    ],
    ids=["an acknowledgement", "an error", "done with an error code", "done without a code"],
)
def test_other_messages_that_end_a_dump(ending: bytes, completion: Completion) -> None:
    dump = make_dump()
    assert take_entries(dump, ending) == []
    assert dump.completion == completion


@pytest.mark.parametrize(
    "malformed",
    [b"\1\2\3", bytes(16), messages.pack(2, 0, 1, b"")],
    ids=["short", "zeros", "error"],
)
def test_a_malformed_message_ends_a_dump_with_an_error(malformed: bytes) -> None:
    dump = make_dump()
    data = entry(1) + malformed
    assert len(take_entries(dump, data)) == 1
    assert dump.completion is not None
    assert dump.completion.errno == errno.EBADMSG
    refused = GET.error(dump.completion)
    assert type(refused) is KernelError
    assert refused.detail


def test_stray_replies_in_a_dump_are_counted_and_dropped() -> None:
    dump = make_dump()
    data = entry(0) + entry(2) + done(2) + ack(2, -1)
    assert take_entries(dump, data) == []
    assert (dump.stray_replies, dump.completion) == (4, None)


@pytest.mark.parametrize("data", [entry(1, flags=MULTI | 0x10), messages.pack(3, 0x12, 1, b"")])
def test_an_interrupted_dump_is_recognized(data: bytes) -> None:
    dump = make_dump()
    take_entries(dump, data)
    assert dump.interrupted


def test_a_stray_reply_does_not_mark_a_dump_as_interrupted() -> None:
    dump = make_dump()
    data = entry(2, flags=0x10)
    take_entries(dump, data)
    assert not dump.interrupted


def test_lost_answers_are_not_inferred_from_a_lack_of_privilege() -> None:
    exchange = make_exchange(2)
    feed(exchange, ack(10, -errno.EPERM))
    exchange.lossy = True
    exchange.note_drained()
    assert exchange.responses[1].completion is None


def test_an_exchange_is_not_sent_after_its_caller_released_it() -> None:
    received: list[Response] = []
    exchange = Exchange([GET], 10, received.extend)
    exchange.release()
    assert not exchange.acquire()
    assert not received


def test_the_last_release_completes_an_exchange() -> None:
    received: list[Response] = []
    exchange = Exchange([GET, GET], 10, received.extend)
    assert exchange.acquire()
    exchange.sent = True
    exchange.release()
    feed(exchange, ack(10))
    assert not received
    exchange.release()
    assert [type(response.error) for response in received] == [type(None), NoReply]
