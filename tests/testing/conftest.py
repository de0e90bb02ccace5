"""Run each test of kernel behavior twice: with the fake kernel and with the real one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from support.effort import GUEST
from support.kernel_release import RELEASE
from support.real_or_fake_kernel import REAL, AnyKernel, FakeKernelAdapter, RealKernel

from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.testing import FakeKernel, releases

_SIZES_ARE_IMITATED = os.uname().machine == "x86_64" and not GUEST
"""Whether the fake kernel imitates the memory sizes of this machine's kernel."""


@pytest.fixture(params=["fake", REAL])
def anykernel(request: pytest.FixtureRequest) -> AnyKernel:
    """Return a kernel without flows, whose new flows all emit events."""
    if request.param == "fake":
        return FakeKernelAdapter(FakeKernel("6.18", sysctls={"nf_conntrack_events": 1}))
    for marker in request.node.iter_markers("since"):
        (name,) = marker.args
        if not RELEASE.has(getattr(releases, name)):
            pytest.skip(f"this kernel does not have the feature {name}")
    if request.node.get_closest_marker("sizes") and not _SIZES_ARE_IMITATED:
        pytest.skip("the memory sizes of this machine's kernel are not imitated")
    return RealKernel(request.getfixturevalue("lab"))


Opener = Callable[..., NetlinkSocket]


@pytest.fixture
def open_socket(anykernel: AnyKernel) -> Iterator[Opener]:
    """Return a function that opens a socket and joins groups; close the sockets after the test."""
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
