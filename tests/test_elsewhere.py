"""Test that the package imports on other systems than Linux, and that its types and codec work."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Remove what Python lacks on other systems, before the package is imported.
OTHER_SYSTEM = """
import os, socket, sys
import anyio

sys.platform = "darwin"
sys.modules["fcntl"] = None
for name in ("AF_NETLINK", "SOCK_NONBLOCK", "SOCK_CLOEXEC"):
    delattr(socket, name)
del os.O_CLOEXEC
for name in ("setns", "unshare", "eventfd"):
    if hasattr(os, name):
        delattr(os, name)
import conntrack_aio
from conntrack_aio import Flow, Match, UnsupportedPlatform
from conntrack_aio.codec.json import to_dict
from conntrack_aio.codec.reference import decode, encode

flow = Flow.tcp("10.0.0.1", 1, "10.0.0.2", 2, timeout=5, mark=3)
data = encode(flow)
assert decode(Flow, data, 0, len(data)).orig == flow.orig
assert to_dict(flow)["mark"] == 3
assert Match(mark=3)(flow)
"""
CONNECT = """
async def main():
    try:
        await conntrack_aio.connect(netns={netns!r})
    except UnsupportedPlatform as error:
        print(error)

anyio.run(main)
"""
FAKE = """
from conntrack_aio import connect
from conntrack_aio.testing import FakeKernel

async def follow():
    kernel = FakeKernel(flows=[flow])
    with kernel.installed():
        async with connect() as conn, conn.events() as stream:
            kernel.remove(kernel.add(flow2))
            print((await anext(stream)).type.name, (await anext(stream)).type.name)
            print(len(await conn.list()))

flow2 = Flow.tcp("10.0.0.1", 1, "10.0.0.2", 3, timeout=5)
anyio.run(follow)
"""
COMMAND = """
from conntrack_aio.cli import main
sys.exit(main({arguments!r}))
"""
UNSUPPORTED = (
    "conntrack_aio talks to the Linux kernel; on this system only its types and its codec work\n"
)


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a new process."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("netns", [None, "blue"])
def test_connecting_raises_unsupported_platform(netns: str | None) -> None:
    done = python(OTHER_SYSTEM + CONNECT.format(netns=netns))
    assert (done.stdout, done.stderr) == (UNSUPPORTED, "")


def test_the_fake_kernel_works() -> None:
    done = python(OTHER_SYSTEM + FAKE)
    assert (done.stdout, done.stderr) == ("NEW DESTROY\n1\n", "")


def test_the_command_reports_an_unsupported_platform() -> None:
    done = python(OTHER_SYSTEM + COMMAND.format(arguments=["list"]))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"conntrack-aio: {UNSUPPORTED}")
