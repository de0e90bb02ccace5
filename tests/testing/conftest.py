"""Each test of what the kernel does runs twice: with the fake one, and with the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support.anykernel import AnyKernel, Fake, Real

from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.testing import FakeKernel


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.kernel)])
def anykernel(request: pytest.FixtureRequest) -> AnyKernel:
    """A kernel without flows, whose flows all emit events."""
    if request.param == "fake":
        return Fake(FakeKernel(sysctls={"nf_conntrack_events": 1}))
    return Real(request.getfixturevalue("lab"))


Opener = Callable[..., NetlinkSocket]


@pytest.fixture
def opened(anykernel: AnyKernel) -> Iterator[Opener]:
    """Opens sockets, and closes them."""
    sockets: list[NetlinkSocket] = []

    def open_one(receive_buffer: int | None = None, groups: tuple[int, ...] = ()) -> NetlinkSocket:
        socket = anykernel.open(receive_buffer)
        sockets.append(socket)
        for group in groups:
            socket.join(group)
        return socket

    yield open_one
    for socket in sockets:
        socket.close()
