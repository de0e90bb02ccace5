"""Requests about timeout policies and helpers, byte by byte, and those that are refused."""

from __future__ import annotations

import errno
from socket import AF_INET, AF_INET6, AF_UNSPEC
from typing import Any

import attrs
import pytest
from support.attribute_encoding import attr, be8, be16, be32, nest
from support.codec_cases import check_request
from support.policy_cases import HELPER_KEY, PER_PROTOCOL, expect_policy, policy_head, seconds

from conntrack_aio import EncodeError, UnknownAttribute
from conntrack_aio.codec.requests import helpers, timeouts
from conntrack_aio.codec.requests.common import MAX_SECONDS
from conntrack_aio.model.enums import HelperStatus
from conntrack_aio.model.helpers import ExpectPolicy, UserspaceHelper
from conntrack_aio.model.timeouts import (
    DCCPTimeouts,
    ICMPTimeouts,
    TCPTimeouts,
    TimeoutPolicy,
    UDPTimeouts,
    protocol_of,
)

CREATE, REPLACE, DUMP = 0x600, 0x500, 0x300
ALL = {timeout: timeouts_ for timeout, timeouts_, _ in PER_PROTOCOL}


def policy(**fields: Any) -> TimeoutPolicy:
    given = {"name": "a", "family": AF_INET, "proto": 17, "timeouts": UDPTimeouts(replied=5)}
    return TimeoutPolicy(**(given | fields))


HEAD = policy_head(b"a", 2, 17)


# Timeout policies


def test_timeouts_requests() -> None:
    check_request(timeouts.dump(), 0x801, DUMP, AF_UNSPEC, b"")
    check_request(timeouts.get("a"), 0x801, 0, AF_UNSPEC, attr(1, b"a\0"))
    check_request(timeouts.delete("a"), 0x802, 0, AF_UNSPEC, attr(1, b"a\0"))
    data = HEAD + nest(4, be32(2, 5))
    check_request(timeouts.create(policy()), 0x800, CREATE, AF_UNSPEC, data)
    check_request(timeouts.create(policy(use=3)), 0x800, CREATE, AF_UNSPEC, data)
    check_request(timeouts.replace(policy()), 0x800, REPLACE, AF_UNSPEC, data)
    check_request(
        timeouts.create(policy(timeouts=UDPTimeouts())), 0x800, CREATE, AF_UNSPEC, HEAD + nest(4)
    )


@pytest.mark.parametrize(("proto", "told", "data"), PER_PROTOCOL)
def test_every_protocols_timeouts(proto: int, told: Any, data: bytes) -> None:
    told = attrs.evolve(told, unack=1) if isinstance(told, TCPTimeouts) else told
    data = data[:-4] + b"\0\0\0\1" if isinstance(told, TCPTimeouts) else data
    own = be16(2, 2) + be8(3, proto)
    check_request(timeouts.set_defaults(told, proto), 0x803, 0, AF_UNSPEC, own + nest(4, data))
    check_request(timeouts.get_defaults(type(told), proto), 0x804, 0, AF_UNSPEC, own)
    made = TimeoutPolicy.of("a", told, family=AF_INET6, proto=proto)
    head = policy_head(b"a", 10, proto)
    check_request(timeouts.create(made), 0x800, CREATE, AF_UNSPEC, head + nest(4, data))


def test_a_class_of_timeouts_says_the_protocol() -> None:
    assert [protocol_of(type(told)) for told in ALL.values()] == [
        *(6, 17, 17, 132, 1, 58, 47, 255, 33)
    ]
    assert TimeoutPolicy.of("a", ICMPTimeouts(), family=AF_INET).proto == 1
    for kind, proto in ((UDPTimeouts, 6), (TCPTimeouts, 17), (DCCPTimeouts, 0)):
        with pytest.raises(EncodeError, match=f"{kind.__name__} needs proto .*; got"):
            protocol_of(kind, proto)
    for what in (int, None, "TCPTimeouts", TimeoutPolicy):
        with pytest.raises(EncodeError, match="must be an object of a class of timeouts"):
            protocol_of(what)  # type: ignore[arg-type]


def test_an_update_replaces_the_policy_by_itself() -> None:
    kept = UnknownAttribute((4, 3), bytes(4))
    old = policy(timeouts=UDPTimeouts(unreplied=0xFFFFFFFF, replied=5), use=4, unknown=(kept,))
    check_request(
        timeouts.update(old, UDPTimeouts(replied=0)),
        0x800,
        REPLACE,
        AF_UNSPEC,
        HEAD + nest(4, be32(1, 0xFFFFFFFF), be32(2, 0), attr(3, bytes(4))),
    )
    assert old.timeouts == UDPTimeouts(unreplied=0xFFFFFFFF, replied=5)
    for told in (UDPTimeouts(), TCPTimeouts(close=1)):
        with pytest.raises(EncodeError) as caught:
            timeouts.update(old, told)
        assert caught.value.path == ("timeouts",)
    with pytest.raises(TypeError, match="TCPTimeouts"):
        timeouts.update(old, None)  # type: ignore[arg-type]


def test_what_only_a_newer_kernel_knows_is_made_as_it_was_read() -> None:
    unknown = (UnknownAttribute((4,), seconds(9), nested=True),)
    made = policy(proto=200, timeouts=None, unknown=unknown)
    data = policy_head(b"a", 2, 200) + nest(4, seconds(9))
    check_request(timeouts.create(made), 0x800, CREATE, AF_UNSPEC, data)


@pytest.mark.parametrize("make", [timeouts.create, timeouts.replace])
@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 32}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": None}, "name"),
        ({"name": 5}, "name"),
        ({"family": 0}, "family"),
        ({"family": 99}, "family"),
        ({"family": None}, "family"),
        ({"proto": 6}, "timeouts"),
        ({"proto": 99}, "timeouts"),
        ({"timeouts": None}, "timeouts"),
        ({"timeouts": 5}, "timeouts"),
        ({"timeouts": UDPTimeouts(replied=MAX_SECONDS + 1)}, "timeouts/replied"),
        ({"timeouts": UDPTimeouts(replied=-1)}, "timeouts/replied"),
        ({"timeouts": UDPTimeouts(unreplied="5")}, "timeouts/unreplied"),  # type: ignore[arg-type]
        ({"unknown": (UnknownAttribute((4,), b""),)}, "unknown"),
    ],
)
def test_policies_that_are_refused(make: Any, fields: dict[str, Any], path: str) -> None:
    with pytest.raises(EncodeError) as caught:
        make(policy(**fields))
    assert "/".join(caught.value.path) == path


@pytest.mark.parametrize("ask", [timeouts.get, timeouts.delete])
@pytest.mark.parametrize("name", ["", "x" * 32, "\0", "a\0"])
def test_a_name_that_is_none_is_never_sent(ask: Any, name: object) -> None:
    with pytest.raises(EncodeError) as caught:
        ask(name)
    assert caught.value.path == ("name",)


@pytest.mark.parametrize("ask", [timeouts.get, timeouts.delete])
@pytest.mark.parametrize("name", [None, 5, b"a", policy()])
def test_what_is_no_name_at_all(ask: Any, name: object) -> None:
    with pytest.raises(TypeError, match="must be text"):
        ask(name)


def test_the_longest_timeout_fits_any_kernel() -> None:
    """As many ticks as a signed comparison of 32 bits takes, at 1000 a second, and no more."""
    assert MAX_SECONDS * 1000 < 1 << 31 <= (MAX_SECONDS + 1) * 1000
    timeouts.create(policy(timeouts=UDPTimeouts(unreplied=MAX_SECONDS, replied=0)))
    for value in (MAX_SECONDS + 1, 0xFFFFFFFF, 1 << 40):
        with pytest.raises(EncodeError, match="more than 2147483"):
            timeouts.set_defaults(TCPTimeouts(established=value), None)


def test_defaults_that_are_refused() -> None:
    for told, proto in ((TCPTimeouts(close=1), 17), (TCPTimeouts(), None)):
        with pytest.raises(EncodeError):
            timeouts.set_defaults(told, proto)
    with pytest.raises(TypeError, match="TCPTimeouts"):
        timeouts.set_defaults(None, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="TCPTimeouts"):
        timeouts.get_defaults(int, None)
    with pytest.raises(EncodeError):
        timeouts.get_defaults(TCPTimeouts, 17)
    with pytest.raises(TypeError, match="must be a TimeoutPolicy"):
        timeouts.create(None)  # type: ignore[arg-type]


# Helpers


def helper(**fields: Any) -> UserspaceHelper:
    policies = (ExpectPolicy(name="b", expect_max=1, expect_timeout=2),)
    given = {"name": "ftp", "family": AF_INET, "proto": 6, "policies": policies}
    return UserspaceHelper(**(given | fields))


KEY = ("ftp", AF_INET, 6)
NAMED = attr(1, b"ftp\0") + HELPER_KEY
POLICY = nest(4, be32(1, 1), expect_policy(2, b"b", 1, 2))


def test_helpers_requests() -> None:
    check_request(helpers.dump(), 0x901, DUMP, AF_UNSPEC, b"")
    check_request(helpers.get(KEY), 0x901, 0, AF_UNSPEC, NAMED)
    check_request(helpers.delete(KEY), 0x902, 0, AF_UNSPEC, NAMED)
    check_request(helpers.flush(), 0x902, 0, AF_UNSPEC, b"")
    check_request(helpers.create(helper()), 0x900, CREATE, AF_UNSPEC, NAMED + POLICY + be32(5, 0))
    full = helper(queue=65535, private_data_length=32, status=HelperStatus.ENABLED)
    told = be32(3, 65535) + be32(5, 32) + be32(6, 1)
    check_request(helpers.create(full), 0x900, CREATE, AF_UNSPEC, NAMED + POLICY + told)


def test_an_update_can_not_make_a_helper() -> None:
    """It lacks the length of the private data, without which the kernel makes none."""
    told = helpers.update(KEY, 0, [helper().policies[0]], HelperStatus.DISABLED)
    check_request(told, 0x900, 0, AF_UNSPEC, NAMED + POLICY + be32(3, 0) + be32(6, 0))
    check_request(helpers.update(KEY, 5, None, None), 0x900, 0, AF_UNSPEC, NAMED + be32(3, 5))


def of(**fields: Any) -> dict[str, Any]:
    given = {"name": "b", "expect_max": 1, "expect_timeout": 2}
    return {"policies": (ExpectPolicy(**(given | fields)),)}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 16}, "name"),
        ({"name": None}, "name"),
        ({"name": 5}, "name"),
        ({"family": 1}, "family"),
        ({"family": None}, "family"),
        ({"proto": None}, "proto"),
        ({"proto": 256}, "proto"),
        ({"proto": "tcp"}, "proto"),
        ({"policies": ()}, "policies"),
        ({"policies": None}, "policies"),
        ({"policies": helper().policies * 5}, "policies"),
        ({"policies": ("b",)}, "policies/0"),
        (of(expect_max=256), "policies/0/expect_max"),
        (of(expect_timeout=MAX_SECONDS + 1), "policies/0/expect_timeout"),
        (of(name="x" * 16), "policies/0/name"),
        ({"queue": 65536}, "queue"),
        ({"queue": -1}, "queue"),
        ({"private_data_length": 33}, "private_data_length"),
        ({"private_data_length": -1}, "private_data_length"),
        ({"status": 2}, "status"),
    ],
)
def test_helpers_that_are_refused(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(EncodeError) as caught:
        helpers.create(helper(**fields))
    assert "/".join(caught.value.path) == path


@pytest.mark.parametrize("ask", [helpers.get, helpers.delete])
@pytest.mark.parametrize("missing", range(3))
def test_less_than_the_whole_key_is_never_sent(ask: Any, missing: int) -> None:
    """A delete that names less deletes more."""
    key: list[Any] = list(KEY)
    for nothing in (None, "", object()):
        key[missing] = nothing
        with pytest.raises((EncodeError, TypeError)):
            ask(tuple(key))


@pytest.mark.parametrize(
    ("queue", "policies", "status"),
    [
        (None, None, None),
        (65536, None, None),
        (None, [], None),
        (None, helper().policies * 5, None),
        (None, None, 7),
    ],
)
def test_updates_that_are_refused(queue: Any, policies: Any, status: Any) -> None:
    with pytest.raises(EncodeError):
        helpers.update(KEY, queue, policies, status)


# Words


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (timeouts.get("a"), "get timeout policy 'a'"),
        (timeouts.set_defaults(ICMPTimeouts(timeout=1), None), "set the default ICMPTimeouts"),
        (helpers.get(KEY), "get helper 'ftp' (tcp, IPv4)"),
        (helpers.get(("x", 99, 200)), "get helper 'x' (200, family 99)"),
        (helpers.flush(), "flush user-space helpers"),
    ],
)
def test_requests_have_words(request_: Any, words: str) -> None:
    assert str(request_) == words


@pytest.mark.parametrize("dump", [timeouts.dump(), helpers.dump()])
def test_a_dump_that_is_not_understood_means_that_there_is_no_such_thing(dump: Any) -> None:
    assert dump.meanings == {errno.EINVAL: errno.EOPNOTSUPP}
    assert "CONFIG_NF_CT_NETLINK_" in dump.hints[errno.EOPNOTSUPP]
