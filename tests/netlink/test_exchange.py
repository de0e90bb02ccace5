"""The conversation's rules, without a socket."""

from __future__ import annotations

import errno
import struct

import pytest
from support.scripted import error_message

from conntrack_aio.errors import InvalidRequest, NoReply, NotFound
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.exchange import DumpExchange, Exchange, Request, Sequence32

MULTI = 2


def request(flags: int = 0) -> Request:
    return Request("ask", "something", 0x101, flags, b"payload!", {errno.ENOENT: "look elsewhere"})


def feed(exchange: Exchange, *data: bytes) -> None:
    for datagram in data:
        exchange.feed(datagram, len(datagram))


def reply(seq: int, payload: bytes = b"data", flags: int = MULTI) -> bytes:
    return messages.pack(0x100, flags, seq, payload)


def test_a_request_asks_for_an_acknowledgement() -> None:
    data = Exchange([request(), request()], 5).data
    flags = [(message.flags, message.seq) for message in messages.walk(data, len(data))]
    assert flags == [(5, 5), (5, 6)]


def test_a_reply_that_is_marked_multipart_ends_with_the_acknowledgement() -> None:
    exchange = Exchange([request()], 5)
    feed(exchange, reply(5))
    assert not exchange.done
    feed(exchange, error_message(5))
    assert exchange.done
    (outcome,) = exchange.outcomes
    assert [each.payload for each in outcome.result()] == [b"data"]


def test_an_acknowledgement_alone_is_an_answer() -> None:
    exchange = Exchange([request()], 5)
    feed(exchange, error_message(5))
    assert exchange.outcomes[0].result() == []


def test_a_refusal() -> None:
    exchange = Exchange([request()], 5)
    feed(exchange, error_message(5, errno.ENOENT))
    with pytest.raises(NotFound, match=r"ask something: .*ENOENT.*look elsewhere"):
        exchange.outcomes[0].result()


def test_each_request_has_its_own_outcome() -> None:
    exchange = Exchange([request()] * 3, 5)
    feed(exchange, error_message(5) + error_message(6, errno.EINVAL), error_message(7))
    errors = [type(outcome.error) for outcome in exchange.outcomes]
    assert errors == [type(None), InvalidRequest, type(None)]


@pytest.mark.parametrize("seq", [0, 4, 6, 0xFFFFFFFF])
def test_what_answers_nothing_of_it_is_counted_and_dropped(seq: int) -> None:
    exchange = Exchange([request()], 5)
    feed(exchange, error_message(seq), reply(seq))
    assert not exchange.done
    assert exchange.strays == 2


def test_a_second_answer_does_not_count() -> None:
    exchange = Exchange([request(), request()], 5)
    feed(exchange, error_message(5), error_message(5, errno.ENOENT))
    assert not exchange.done
    assert exchange.outcomes[0].error is None


def test_no_privilege_ends_the_datagram() -> None:
    exchange = Exchange([request()] * 3, 5)
    feed(exchange, error_message(5, errno.EPERM))
    assert not exchange.done
    exchange.dry()
    assert exchange.done
    assert {outcome.failure.errno for outcome in exchange.outcomes if outcome.failure} == {
        errno.EPERM
    }


def test_another_refusal_does_not() -> None:
    exchange = Exchange([request()] * 2, 5)
    feed(exchange, error_message(5, errno.ENOENT))
    exchange.dry()
    assert not exchange.done
    assert isinstance(exchange.outcomes[1].error, NoReply)


def test_sequence_numbers_wrap_without_zero() -> None:
    sequence = Sequence32()
    assert sequence.take(3) == 1
    assert sequence.take(1) == 4
    sequence._last = 0xFFFFFFF0
    assert sequence.take(64) == 1


# -- dumps ----------------------------------------------------------------------------------


def dump() -> DumpExchange:
    return DumpExchange(request(), 1)


def entries(exchange: DumpExchange, data: bytes) -> int:
    return len(exchange.feed(data, len(data)))


def test_a_dump_is_asked_for_with_an_acknowledgement() -> None:
    (message,) = messages.walk(dump().data, len(dump().data))
    assert message.flags == 0x305


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (messages.pack(messages.DONE, MULTI, 1, bytes(4)), 0),
        (messages.pack(messages.DONE, MULTI, 1, struct.pack("=i", -errno.EIO)), errno.EIO),
        (error_message(1), 0),
        (error_message(1, errno.EPERM), errno.EPERM),
        (b"garbage" * 5, errno.EBADMSG),
    ],
)
def test_how_a_dump_ends(ending: bytes, code: int) -> None:
    exchange = dump()
    assert entries(exchange, reply(1) + reply(1)) == 2
    assert exchange.failure is None
    assert entries(exchange, reply(1) + ending) == 1
    assert exchange.failure is not None
    assert exchange.failure.errno == code


def test_an_interruption_is_noted_and_strays_are_counted() -> None:
    exchange = dump()
    assert entries(exchange, reply(1) + reply(2) + reply(1, flags=MULTI | 0x10)) == 2
    assert exchange.interrupted
    assert exchange.strays == 1
