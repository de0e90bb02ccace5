"""The bytes of requests about timeout policies and helpers, and requests that are refused."""

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
from conntrack_aio.model.helpers import ExpectPolicy, HelperStatus, UserspaceHelper
from conntrack_aio.model.timeouts import (
    DCCPTimeouts,
    ICMPTimeouts,
    TCPTimeouts,
    TimeoutPolicy,
    UDPTimeouts,
    protocol_of,
)

CREATE, REPLACE, DUMP = 0x600, 0x500, 0x300
ALL = {proto: timeouts_ for proto, timeouts_, _ in PER_PROTOCOL}


def policy(**fields: Any) -> TimeoutPolicy:
    given = {"name": "a", "family": AF_INET, "proto": 17, "timeouts": UDPTimeouts(replied=5)}
    return TimeoutPolicy(**(given | fields))


HEAD = policy_head(b"a", 2, 17)


# Timeout policies


def test_requests_about_timeouts() -> None:
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


@pytest.mark.parametrize(("proto", "timeouts_", "data"), PER_PROTOCOL)
def test_requests_with_the_timeouts_of_each_protocol(
    proto: int, timeouts_: Any, data: bytes
) -> None:
    timeouts_ = (
        attrs.evolve(timeouts_, unack=1) if isinstance(timeouts_, TCPTimeouts) else timeouts_
    )
    data = data[:-4] + b"\0\0\0\1" if isinstance(timeouts_, TCPTimeouts) else data
    own = be16(2, 2) + be8(3, proto)
    check_request(timeouts.set_defaults(timeouts_, proto), 0x803, 0, AF_UNSPEC, own + nest(4, data))
    check_request(timeouts.get_defaults(type(timeouts_), proto), 0x804, 0, AF_UNSPEC, own)
    policy_ = TimeoutPolicy.of("a", timeouts_, family=AF_INET6, proto=proto)
    head = policy_head(b"a", 10, proto)
    check_request(timeouts.create(policy_), 0x800, CREATE, AF_UNSPEC, head + nest(4, data))


def test_a_class_of_timeouts_determines_the_protocol() -> None:
    assert [protocol_of(type(timeouts_)) for timeouts_ in ALL.values()] == [
        *(6, 17, 17, 132, 1, 58, 47, 255, 33)
    ]
    assert TimeoutPolicy.of("a", ICMPTimeouts(), family=AF_INET).proto == 1
    for kind, proto in ((UDPTimeouts, 6), (TCPTimeouts, 17), (DCCPTimeouts, 0)):
        with pytest.raises(EncodeError, match=f"{kind.__name__} needs proto .*; got"):
            protocol_of(kind, proto)
    for what in (int, None, "TCPTimeouts", TimeoutPolicy):
        with pytest.raises(EncodeError, match="must be an object of a class of timeouts"):
            protocol_of(what)  # type: ignore[arg-type]


def test_an_update_sends_the_whole_policy() -> None:
    unknown = UnknownAttribute((4, 3), bytes(4))
    old = policy(timeouts=UDPTimeouts(unreplied=0xFFFFFFFF, replied=5), use=4, unknown=(unknown,))
    check_request(
        timeouts.update(old, UDPTimeouts(replied=0)),
        0x800,
        REPLACE,
        AF_UNSPEC,
        HEAD + nest(4, be32(1, 0xFFFFFFFF), be32(2, 0), attr(3, bytes(4))),
    )
    assert old.timeouts == UDPTimeouts(unreplied=0xFFFFFFFF, replied=5)
    for timeouts_ in (UDPTimeouts(), TCPTimeouts(close=1)):
        with pytest.raises(EncodeError) as caught:
            timeouts.update(old, timeouts_)
        assert caught.value.path == ("timeouts",)
    with pytest.raises(TypeError, match="TCPTimeouts"):
        timeouts.update(old, None)  # type: ignore[arg-type]


def test_timeouts_of_an_unknown_protocol_are_sent_as_they_were_read() -> None:
    unknown = (UnknownAttribute((4,), seconds(9), nested=True),)
    policy_ = policy(proto=200, timeouts=None, unknown=unknown)
    data = policy_head(b"a", 2, 200) + nest(4, seconds(9))
    check_request(timeouts.create(policy_), 0x800, CREATE, AF_UNSPEC, data)


@pytest.mark.parametrize("make_request", [timeouts.create, timeouts.replace])
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
def test_policies_that_are_not_valid_are_refused(
    make_request: Any, fields: dict[str, Any], path: str
) -> None:
    with pytest.raises(EncodeError) as caught:
        make_request(policy(**fields))
    assert "/".join(caught.value.path) == path


@pytest.mark.parametrize("make_request", [timeouts.get, timeouts.delete])
@pytest.mark.parametrize("name", ["", "x" * 32, "\0", "a\0"])
def test_names_that_are_not_valid_are_never_sent(make_request: Any, name: object) -> None:
    with pytest.raises(EncodeError) as caught:
        make_request(name)
    assert caught.value.path == ("name",)


@pytest.mark.parametrize("make_request", [timeouts.get, timeouts.delete])
@pytest.mark.parametrize("name", [None, 5, b"a", policy()])
def test_a_name_must_be_text(make_request: Any, name: object) -> None:
    with pytest.raises(TypeError, match="must be text"):
        make_request(name)


def test_the_longest_timeout_fits_any_kernel() -> None:
    """It is the longest that a signed 32-bit comparison of ticks allows, at 1000 per second."""
    assert MAX_SECONDS * 1000 < 1 << 31 <= (MAX_SECONDS + 1) * 1000
    timeouts.create(policy(timeouts=UDPTimeouts(unreplied=MAX_SECONDS, replied=0)))
    for value in (MAX_SECONDS + 1, 0xFFFFFFFF, 1 << 40):
        with pytest.raises(EncodeError, match="more than 2147483"):
            timeouts.set_defaults(TCPTimeouts(established=value), None)


def test_defaults_that_are_not_valid_are_refused() -> None:
    for timeouts_, proto in ((TCPTimeouts(close=1), 17), (TCPTimeouts(), None)):
        with pytest.raises(EncodeError):
            timeouts.set_defaults(timeouts_, proto)
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


KEY = helpers.HelperKey("ftp", AF_INET, 6)
NAMED = attr(1, b"ftp\0") + HELPER_KEY
POLICY = nest(4, be32(1, 1), expect_policy(2, b"b", 1, 2))


def test_requests_about_helpers() -> None:
    check_request(helpers.dump(), 0x901, DUMP, AF_UNSPEC, b"")
    check_request(helpers.get(KEY), 0x901, 0, AF_UNSPEC, NAMED)
    check_request(helpers.delete(KEY), 0x902, 0, AF_UNSPEC, NAMED)
    check_request(helpers.flush(), 0x902, 0, AF_UNSPEC, b"")
    check_request(helpers.create(helper()), 0x900, CREATE, AF_UNSPEC, NAMED + POLICY + be32(5, 0))
    full = helper(queue=65535, private_data_length=32, status=HelperStatus.ENABLED)
    rest = be32(3, 65535) + be32(5, 32) + be32(6, 1)
    check_request(helpers.create(full), 0x900, CREATE, AF_UNSPEC, NAMED + POLICY + rest)


def test_an_update_cannot_create_a_helper() -> None:
    """It lacks the length of the private data, which the kernel needs to create a helper."""
    request = helpers.update(KEY, 0, [helper().policies[0]], HelperStatus.DISABLED)
    check_request(request, 0x900, 0, AF_UNSPEC, NAMED + POLICY + be32(3, 0) + be32(6, 0))
    check_request(helpers.update(KEY, 5, None, None), 0x900, 0, AF_UNSPEC, NAMED + be32(3, 5))


def one_policy(**fields: Any) -> dict[str, Any]:
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
        (one_policy(expect_max=256), "policies/0/expect_max"),
        (one_policy(expect_timeout=MAX_SECONDS + 1), "policies/0/expect_timeout"),
        (one_policy(name="x" * 16), "policies/0/name"),
        ({"queue": 65536}, "queue"),
        ({"queue": -1}, "queue"),
        ({"private_data_length": 33}, "private_data_length"),
        ({"private_data_length": -1}, "private_data_length"),
        ({"status": 2}, "status"),
    ],
)
def test_helpers_that_are_not_valid_are_refused(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(EncodeError) as caught:
        helpers.create(helper(**fields))
    assert "/".join(caught.value.path) == path


@pytest.mark.parametrize("make_request", [helpers.get, helpers.delete])
@pytest.mark.parametrize("missing", range(3))
def test_an_incomplete_key_is_never_sent(make_request: Any, missing: int) -> None:
    """A delete with an incomplete key would delete more helpers."""
    key: list[Any] = list(KEY)
    for empty in (None, "", object()):
        key[missing] = empty
        with pytest.raises((EncodeError, TypeError)):
            make_request(helpers.HelperKey(*key))


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
def test_updates_that_are_not_valid_are_refused(queue: Any, policies: Any, status: Any) -> None:
    with pytest.raises(EncodeError):
        helpers.update(KEY, queue, policies, status)


# Text


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (timeouts.get("a"), "get timeout policy 'a'"),
        (timeouts.set_defaults(ICMPTimeouts(timeout=1), None), "set the default ICMPTimeouts"),
        (helpers.get(KEY), "get helper 'ftp' (tcp, IPv4)"),
        (helpers.get(helpers.HelperKey("x", 99, 200)), "get helper 'x' (200, family 99)"),
        (helpers.flush(), "flush user-space helpers"),
    ],
)
def test_the_text_of_a_request(request_: Any, text: str) -> None:
    assert str(request_) == text


@pytest.mark.parametrize("dump", [timeouts.dump(), helpers.dump()])
def test_a_dump_answered_with_einval_means_that_the_subsystem_is_missing(dump: Any) -> None:
    assert dump.meanings == {errno.EINVAL: errno.EOPNOTSUPP}
    assert "CONFIG_NF_CT_NETLINK_" in dump.hints[errno.EOPNOTSUPP]
