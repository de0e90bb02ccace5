"""The foot-guns of the other subsystems, through the public interface, on kernels of every age.

Each of them takes a delete that names nothing for one of all. Nothing goes that was not asked for.
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


NO_POLICY: dict[str, tuple[type[Exception], Call]] = {
    "no name": (EncodeError, lambda c: c.timeouts.delete("")),
    "nothing": (TypeError, lambda c: c.timeouts.delete(None)),  # type: ignore[arg-type]
    "a policy": (TypeError, lambda c: c.timeouts.delete(udp("a"))),  # type: ignore[arg-type]
    "a name's start": (EncodeError, lambda c: c.timeouts.delete("a\0b")),
    "too long a name": (EncodeError, lambda c: c.timeouts.delete("a" * 32)),
    "another's name": (NotFound, lambda c: c.timeouts.delete("c")),
    "an update of none": (NotFound, lambda c: c.timeouts.update("c", UDPTimeouts(replied=1))),
    "an update to nothing": (EncodeError, lambda c: c.timeouts.update("a", UDPTimeouts())),
    "of another protocol": (
        InvalidRequest,
        lambda c: c.timeouts.replace(TimeoutPolicy.of("a", TCPTimeouts(), family=AF_INET)),
    ),
    "of another family": (
        InvalidRequest,
        lambda c: c.timeouts.replace(TimeoutPolicy.of("a", UDPTimeouts(), family=AF_INET6)),
    ),
    "more than fits": (
        EncodeError,
        lambda c: c.timeouts.update("a", UDPTimeouts(replied=1 << 31)),
    ),
    "defaults of nothing": (EncodeError, lambda c: c.timeouts.set_defaults(UDPTimeouts())),
}


@pytest.mark.parametrize("name", NO_POLICY)
async def test_no_policy_goes_or_changes(conn: Connection, kernel: FakeKernel, name: str) -> None:
    for each in ("a", "b"):
        await conn.timeouts.create(udp(each))
    before, settings = await conn.timeouts.list(), dict(kernel.sysctls)
    error, call = NO_POLICY[name]
    with pytest.raises(error):
        await call(conn)
    assert await conn.timeouts.list() == before
    assert kernel.sysctls == settings


async def test_the_unused_policies_are_deleted_alone(conn: Connection, kernel: FakeKernel) -> None:
    """The kernel deletes one in use as well from 7.1 on, and so does Debian's 6.1 (6.1.192)."""
    kernel.timeout_policies += [udp("a"), udp("b"), udp("")]
    kernel.timeout_policies[0].use = 2
    assert await conn.timeouts.delete_unused() == 2
    assert [policy.name for policy in kernel.timeout_policies] == ["a"]
    spared = kernel.release not in ("6.1", "7.1")
    with pytest.raises(ResourceBusy) if spared else nullcontext():
        await conn.timeouts.delete("a")
    assert len(kernel.timeout_policies) == int(spared)
    assert "flush policies" not in [asked.verb for asked in kernel.requests]


async def test_a_default_that_is_set_leaves_the_others(
    conn: Connection, kernel: FakeKernel
) -> None:
    """Kernels until 6.8 want to hear a family."""
    before = dict(kernel.sysctls)
    await conn.timeouts.set_defaults(TCPTimeouts(established=7))
    assert kernel.sysctls == before | {"nf_conntrack_tcp_timeout_established": 7}


async def test_an_update_keeps_what_it_does_not_tell(conn: Connection) -> None:
    """The kernel resets it to the defaults."""
    await conn.timeouts.create(udp("a"))
    updated = await conn.timeouts.update("a", UDPTimeouts(replied=9))
    assert updated.timeouts == UDPTimeouts(unreplied=5, replied=9)


# -- user-space helpers ---------------------------------------------------------------------------


def helper(name: str, family: int = AF_INET) -> UserspaceHelper:
    policy = ExpectPolicy(name="a", expect_max=1, expect_timeout=300)
    return UserspaceHelper(name=name, family=family, proto=6, policies=(policy,))


OTHER = (ExpectPolicy(name="b", expect_max=1, expect_timeout=300),)
NO_HELPER: dict[str, tuple[type[Exception], Call]] = {
    "no name": (EncodeError, lambda c: c.helpers.delete("", AF_INET, 6)),
    "nothing": (EncodeError, lambda c: c.helpers.delete(None, None, None)),  # type: ignore[arg-type]
    "a name alone": (EncodeError, lambda c: c.helpers.delete("rpc", None, None)),  # type: ignore[arg-type]
    "no protocol": (EncodeError, lambda c: c.helpers.delete("rpc", AF_INET, None)),  # type: ignore[arg-type]
    "a helper": (TypeError, lambda c: c.helpers.delete(helper("rpc"))),  # type: ignore[arg-type, call-arg]
    "another name": (NotFound, lambda c: c.helpers.delete("tns", AF_INET, 6)),
    "another protocol": (NotFound, lambda c: c.helpers.delete("rpc", AF_INET, 17)),
    "an update of none": (NotFound, lambda c: c.helpers.update("tns", AF_INET, 6, queue=1)),
    "an update that would make one": (
        NotFound,
        lambda c: c.helpers.update("tns", AF_INET, 6, policies=helper("tns").policies),
    ),
    "an update to nothing": (EncodeError, lambda c: c.helpers.update("rpc", AF_INET, 6)),
    "other policies": (
        ResourceBusy,
        lambda c: c.helpers.update("rpc", AF_INET, 6, queue=1, policies=OTHER),
    ),
    "a queue of more bits": (
        EncodeError,
        lambda c: c.helpers.update("rpc", AF_INET, 6, queue=1 << 16),
    ),
}


@pytest.mark.parametrize("name", NO_HELPER)
async def test_no_helper_goes_or_changes(conn: Connection, name: str) -> None:
    for each in (helper("rpc"), helper("rpc", AF_INET6), helper("mdns")):
        await conn.helpers.create(each)
    before = await conn.helpers.list()
    error, call = NO_HELPER[name]
    with pytest.raises(error):
        await call(conn)
    assert await conn.helpers.list() == before


async def test_one_of_two_helpers_of_a_name(conn: Connection, kernel: FakeKernel) -> None:
    """The kernel itself deletes all that match, and of several answers with the first."""
    for each in (helper("rpc"), helper("rpc", AF_INET6)):
        await conn.helpers.create(each)
    await conn.helpers.delete("rpc", AF_INET6, 6)
    assert [each.key for each in kernel.helpers] == [("rpc", AF_INET, 6)]
    with pytest.raises(NotFound):
        await conn.helpers.delete("rpc", AF_INET6, 6)
    assert len(kernel.helpers) == 1
