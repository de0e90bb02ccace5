"""Test the names of services in matches."""

from __future__ import annotations

import socket

import pytest

from conntrack_aio import Match, MatchError

SERVICES = {
    ("web", "tcp"): 80,
    ("web", "udp"): 80,
    ("web-alt", "tcp"): 8008,
    ("shell", "tcp"): 514,
    ("shell", "udp"): 515,
}


@pytest.fixture(autouse=True)
def _services(monkeypatch: pytest.MonkeyPatch) -> None:
    def getservbyname(name: str, proto: str) -> int:
        if "\0" in name:
            raise ValueError("embedded null character")
        if (name, proto) not in SERVICES:
            raise OSError("service/proto not found")
        return SERVICES[name, proto]

    monkeypatch.setattr(socket, "getservbyname", getservbyname)


def test_a_service_is_its_port() -> None:
    assert Match.parse("orig.dport web") == Match(orig_dport=80)
    assert Match.parse("reply.sport in {web-alt, 1-2}") == Match(reply_sport=["8008", "1-2"])
    assert Match.parse("orig.dport >= web-alt") == Match.parse("orig.dport >= 8008")
    assert Match.parse("dnat to 10.0.0.1:web") == Match(dnat="10.0.0.1", reply_sport=80)
    assert Match(orig_dport="web") == Match(orig_dport=80)


def test_a_service_with_several_ports_is_ambiguous() -> None:
    with pytest.raises(MatchError) as caught:
        Match.parse("orig.dport shell")
    assert caught.value.reason == (
        "orig.dport: the service 'shell' has several ports (514 of tcp, 515 of udp); "
        "write the number"
    )


@pytest.mark.parametrize("name", ["mail", "web-mail", "\0"])
def test_an_unknown_service_is_an_error(name: str) -> None:
    with pytest.raises(MatchError, match="or the name of a service"):
        Match(orig_dport=name)


def test_only_ports_have_services() -> None:
    with pytest.raises(MatchError, match="must be a number or a range"):
        Match.parse("zone web")
