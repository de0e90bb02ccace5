"""Test that a connection in an event loop has imported what most programs use."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
from support.lab import Lab

pytestmark = pytest.mark.kernel

PROGRAM = """
import sys, anyio
from conntrack_aio import Flow, connect

FLOW = Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 80, timeout=600)

async def main():
    async with connect() as conn:
        before = set(sys.modules)
        created = await conn.create(FLOW)
        await conn.update(created, mark=5)
        await conn.set_labels(created)
        assert (await conn.get(FLOW.orig)).mark == 5
        assert [flow.orig for flow in await conn.list()] == [FLOW.orig]
        assert await conn.count() == (await conn.table_statistics()).entries == 1
        await conn.cpu_statistics()
        await conn.delete(created)
        await conn.flush()
        conn.client_statistics()
        new = set(sys.modules) - before
        print(sorted(name for name in new if name.startswith("conntrack_aio")))

anyio.run(main)
"""


def test_little_is_imported_after_connecting(lab: Lab) -> None:
    """A program may lose the right to read modules once it is connected, as another user does."""
    run = partial(subprocess.run, [sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    done = lab.run(run)
    # Where ctypes cannot be imported, the module that uses it is not needed.
    assert (done.stderr, done.stdout) == ("", "['conntrack_aio.netlink.recvmmsg']\n")
