"""Test the names and values of timeouts."""

from __future__ import annotations

import pytest

from conntrack_aio.cli.nfct.refusal import Refused
from conntrack_aio.cli.nfct.states import CLASSES, parse_timeouts, state_names
from conntrack_aio.model.timeouts import PROTOCOL_TIMEOUTS, TCPTimeouts, UDPTimeouts


def test_every_class_has_names() -> None:
    assert set(CLASSES.values()) == set(PROTOCOL_TIMEOUTS)
    assert " ".join(state_names(TCPTimeouts)) == (
        "SYN_SENT SYN_RECV ESTABLISHED FIN_WAIT CLOSE_WAIT LAST_ACK TIME_WAIT CLOSE SYN_SENT2 "
        "RETRANS UNACKNOWLEDGED"
    )
    assert " ".join(state_names(CLASSES[132])) == (
        "CLOSED COOKIE_WAIT COOKIE_ECHOED ESTABLISHED SHUTDOWN_SENT SHUTDOWN_RECD SHUTDOWN_ACK_SENT"
    )


def test_timeouts_in_any_case_and_the_last_one_counts() -> None:
    words = ["Close", "5", "UNACKNOWLEDGED", "7", "close", "6"]
    assert parse_timeouts("tcp", 6, words) == TCPTimeouts(close=6, unack=7)
    assert parse_timeouts("tcp", 6, []) is None
    assert parse_timeouts("esp", 50, []) is None


@pytest.mark.parametrize(
    ("word", "seconds"),
    [("0", 0), ("000", 0), ("010", 10), ("+7", 7), (" \t\n8", 8), ("9 ", 9), ("2147483", 2147483)],
)
def test_numbers(word: str, seconds: int) -> None:
    assert parse_timeouts("udp", 17, ["replied", word]) == UDPTimeouts(replied=seconds)


@pytest.mark.parametrize(
    "word", ["", "abc", "12abc", "-1", "+", "+ 1", "0x10", "1.5", "1e3", "1_0", "\u0663", "\udcff"]
)
def test_other_words_are_no_numbers(word: str) -> None:
    """nfct(8) takes them for 0 or for the digits that they begin with."""
    with pytest.raises(Refused, match=r"Wrong timeout: `.*' for state `replied'"):
        parse_timeouts("udp", 17, ["replied", word])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["close"], "missing value for this timeout"),
        (["close", "5", "foo"], "missing value for this timeout"),
        (["foo", "5", "close"], "Wrong state name: `foo' for protocol `tcp'"),
        (["unack", "5"], "Wrong state name: `unack' for protocol `tcp'"),
        (["", "5"], "Wrong state name: `' for protocol `tcp'"),
        # Python's upper case of this word is CLOSE.
        (["clo\u017fe", "5"], "Wrong state name: `clo\u017fe' for protocol `tcp'"),
        (["\udcff", "5"], "Wrong state name: `\udcff' for protocol `tcp'"),
    ],
)
def test_wrong_words(words: list[str], message: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_timeouts("tcp", 6, words)
    assert caught.value.args == (message,)


@pytest.mark.parametrize("state", ["heartbeat_sent", "heartbeat_acked"])
def test_nfct_has_no_heartbeat_timeouts(state: str) -> None:
    with pytest.raises(Refused, match="Wrong state name"):
        parse_timeouts("sctp", 132, [state, "5"])


def test_a_protocol_without_timeouts_has_no_names() -> None:
    with pytest.raises(Refused, match="Wrong state name: `timeout' for protocol `esp'"):
        parse_timeouts("esp", 50, ["timeout", "5"])
