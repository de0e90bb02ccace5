"""Test the names of families and protocols."""

from __future__ import annotations

from collections.abc import Callable
from socket import AF_INET, AF_INET6

import pytest

from conntrack_aio.cli.nfct import protocols
from conntrack_aio.cli.nfct.protocols import parse_family, parse_helper_protocol, parse_protocol
from conntrack_aio.cli.nfct.refusal import Refused


@pytest.mark.parametrize(
    ("parse", "word", "number"),
    [
        (parse_family, "inet", AF_INET),
        (parse_family, "inet6", AF_INET6),
        (parse_protocol, "generic", 255),
        (parse_protocol, "icmpv6", 58),
        (parse_protocol, "udplite", 136),
        (parse_helper_protocol, "tcp", 6),
        (parse_helper_protocol, "udp", 17),
    ],
)
def test_names(parse: Callable[[str], int], word: str, number: int) -> None:
    assert parse(word) == number


@pytest.mark.parametrize(
    ("parse", "message"),
    [
        (parse_family, "unknown layer 3 protocol"),
        (parse_protocol, "unknown layer 4 protocol"),
        (parse_helper_protocol, "unsupported layer 4 protocol"),
    ],
)
@pytest.mark.parametrize("word", ["", "nope", "6", "Inet", "Tcp", "\u0663", "\udcff"])
def test_other_words(parse: Callable[[str], int], message: str, word: str) -> None:
    with pytest.raises(Refused, match=message):
        parse(word)


def test_other_protocols_have_the_names_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"esp": 50, "IPv6-ICMP": 58}

    def lookup(name: str) -> int:
        if name not in numbers:
            raise OSError("protocol not found")
        return numbers[name]

    monkeypatch.setattr(protocols, "getprotobyname", lookup)
    assert (parse_protocol("esp"), parse_protocol("IPv6-ICMP")) == (50, 58)
    # A container image may lack /etc/protocols.
    assert parse_protocol("tcp") == 6
