"""Test that requests that other subsystems would misinterpret are refused.

Each subsystem takes a delete without a name for a delete of everything. These tests run on all
supported releases.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from socket import AF_INET, AF_INET6

import pytest

from conntrack_aio import (
    Connection,
    EncodeError,
    ExpectPolicy,
    InvalidRequest,
    NotFound,
    ResourceBusy,
    TCPTimeouts,
    TimeoutPolicy,
    UDPTimeouts,
    UserspaceHelper,
)
from conntrack_aio.testing import FakeKernel

pytestmark = pytest.mark.anyio

RELEASES = ("4.19", "5.4", "5.15", "6.1", "6.8", "6.12", "6.18", "7.1")


@pytest.fixture(params=RELEASES)
def kernel(request: pytest.FixtureRequest) -> FakeKernel:
    release: str = request.param
    return FakeKernel(release, sysctls={"nf_conntrack_events": 1})


@pytest.fixture
async def conn(kernel: FakeKernel) -> AsyncIterator[Connection]:
    async with kernel.connect() as connection:
        yield connection


Call = Callable[[Connection], Awaitable[object]]


# -- timeout policies -----------------------------------------------------------------------------


def udp(name: str) -> TimeoutPolicy:
    return TimeoutPolicy.of(name, UDPTimeouts(unreplied=5, replied=6), family=AF_INET)


INVALID_POLICY_CALLS: dict[str, tuple[type[Exception], Call]] = {
    "no name": (EncodeError, lambda c: c.timeouts.delete("")),
    "nothing": (TypeError, lambda c: c.timeouts.delete(None)),  # type: ignore[arg-type]
    "a policy": (TypeError, lambda c: c.timeouts.delete(udp("a"))),  # type: ignore[arg-type]
    "a name with a null byte": (EncodeError, lambda c: c.timeouts.delete("a\0b")),
    "too long a name": (EncodeError, lambda c: c.timeouts.delete("a" * 32)),
    "an unknown name": (NotFound, lambda c: c.timeouts.delete("c")),
    "an update of a missing policy": (
        NotFound,
        lambda c: c.timeouts.update("c", UDPTimeouts(replied=1)),
    ),
    "an update without changes": (EncodeError, lambda c: c.timeouts.update("a", UDPTimeouts())),
    "replacing a policy of another protocol": (
        InvalidRequest,
        lambda c: c.timeouts.replace(TimeoutPolicy.of("a", TCPTimeouts(), family=AF_INET)),
    ),
    "replacing a policy of another family": (
        InvalidRequest,
        lambda c: c.timeouts.replace(TimeoutPolicy.of("a", UDPTimeouts(), family=AF_INET6)),
    ),
    "too long a timeout": (
        EncodeError,
        lambda c: c.timeouts.update("a", UDPTimeouts(replied=1 << 31)),
    ),
    "no defaults": (EncodeError, lambda c: c.timeouts.set_defaults(UDPTimeouts())),
}


@pytest.mark.parametrize("name", INVALID_POLICY_CALLS)
async def test_invalid_policy_requests_are_refused_and_change_nothing(
    conn: Connection, kernel: FakeKernel, name: str
) -> None:
    for policy in ("a", "b"):
        await conn.timeouts.create(udp(policy))
    before, settings = await conn.timeouts.list(), dict(kernel.sysctls)
    error, call = INVALID_POLICY_CALLS[name]
    with pytest.raises(error):
        await call(conn)
    assert await conn.timeouts.list() == before
    assert kernel.sysctls == settings


async def test_delete_unused_deletes_only_unused_policies(
    conn: Connection, kernel: FakeKernel
) -> None:
    """Since Linux 7.1, and in Debian's 6.1.192, the kernel also deletes a policy in use by name."""
    kernel.timeout_policies += [udp("a"), udp("b"), udp("")]
    kernel.timeout_policies[0].use = 2
    assert await conn.timeouts.delete_unused() == 2
    assert [policy.name for policy in kernel.timeout_policies] == ["a"]
    refused = kernel.release not in ("6.1", "7.1")
    with pytest.raises(ResourceBusy) if refused else nullcontext():
        await conn.timeouts.delete("a")
    assert len(kernel.timeout_policies) == int(refused)
    assert "flush policies" not in [request.verb for request in kernel.requests]


async def test_setting_one_default_keeps_the_others(conn: Connection, kernel: FakeKernel) -> None:
    """Kernels until 6.8 require a family in the request."""
    before = dict(kernel.sysctls)
    await conn.timeouts.set_defaults(TCPTimeouts(established=7))
    assert kernel.sysctls == before | {"nf_conntrack_tcp_timeout_established": 7}


async def test_an_update_keeps_the_timeouts_that_it_does_not_name(conn: Connection) -> None:
    """The kernel would reset them to the defaults."""
    await conn.timeouts.create(udp("a"))
    updated = await conn.timeouts.update("a", UDPTimeouts(replied=9))
    assert updated.timeouts == UDPTimeouts(unreplied=5, replied=9)


# -- user-space helpers ---------------------------------------------------------------------------


def helper(name: str, family: int = AF_INET) -> UserspaceHelper:
    policy = ExpectPolicy(name="a", expect_max=1, expect_timeout=300)
    return UserspaceHelper(name=name, family=family, proto=6, policies=(policy,))


OTHER_POLICIES = (ExpectPolicy(name="b", expect_max=1, expect_timeout=300),)
INVALID_HELPER_CALLS: dict[str, tuple[type[Exception], Call]] = {
    "no name": (EncodeError, lambda c: c.helpers.delete("", AF_INET, 6)),
    "nothing": (EncodeError, lambda c: c.helpers.delete(None, None, None)),  # type: ignore[arg-type]
    "a name alone": (EncodeError, lambda c: c.helpers.delete("rpc", None, None)),  # type: ignore[arg-type]
    "no protocol": (EncodeError, lambda c: c.helpers.delete("rpc", AF_INET, None)),  # type: ignore[arg-type]
    "a helper": (TypeError, lambda c: c.helpers.delete(helper("rpc"))),  # type: ignore[arg-type, call-arg]
    "another name": (NotFound, lambda c: c.helpers.delete("tns", AF_INET, 6)),
    "another protocol": (NotFound, lambda c: c.helpers.delete("rpc", AF_INET, 17)),
    "an update of a missing helper": (
        NotFound,
        lambda c: c.helpers.update("tns", AF_INET, 6, queue=1),
    ),
    "an update that would create a helper": (
        NotFound,
        lambda c: c.helpers.update("tns", AF_INET, 6, policies=helper("tns").policies),
    ),
    "an update without changes": (EncodeError, lambda c: c.helpers.update("rpc", AF_INET, 6)),
    "other policies": (
        ResourceBusy,
        lambda c: c.helpers.update("rpc", AF_INET, 6, queue=1, policies=OTHER_POLICIES),
    ),
    "too large a queue number": (
        EncodeError,
        lambda c: c.helpers.update("rpc", AF_INET, 6, queue=1 << 16),
    ),
}


@pytest.mark.parametrize("name", INVALID_HELPER_CALLS)
async def test_invalid_helper_requests_are_refused_and_change_nothing(
    conn: Connection, name: str
) -> None:
    for existing in (helper("rpc"), helper("rpc", AF_INET6), helper("mdns")):
        await conn.helpers.create(existing)
    before = await conn.helpers.list()
    error, call = INVALID_HELPER_CALLS[name]
    with pytest.raises(error):
        await call(conn)
    assert await conn.helpers.list() == before


async def test_delete_deletes_one_of_two_helpers_of_the_same_name(
    conn: Connection, kernel: FakeKernel
) -> None:
    """The kernel deletes all helpers that match a request, and replies with the first match."""
    for existing in (helper("rpc"), helper("rpc", AF_INET6)):
        await conn.helpers.create(existing)
    await conn.helpers.delete("rpc", AF_INET6, 6)
    assert [remaining.key for remaining in kernel.helpers] == [("rpc", AF_INET, 6)]
    with pytest.raises(NotFound):
        await conn.helpers.delete("rpc", AF_INET6, 6)
    assert len(kernel.helpers) == 1
