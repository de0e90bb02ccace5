"""Test that the first messages of a program are read and written without compiled functions."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import anyio
from conntrack_aio.codec import decoder, packers
from conntrack_aio.codec.requests import flows
from conntrack_aio.eventloop import blocking
from conntrack_aio import Flow, connect
from conntrack_aio.testing import FakeKernel

FLOW = Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 80, timeout=600)

async def get():
    async with connect() as conn:
        return await conn.get(FLOW.orig)

def compiled():
    names = "layouts", "packer_writer"
    modules = [name for name in names if f"conntrack_aio.codec.{name}" in sys.modules]
    return modules, flows._GET.compilations

with FakeKernel(flows=[FLOW]).installed():
    first = blocking.run(get)
    print(compiled())
    for _ in range(max(decoder.NOT_COMPILED, packers.NOT_COMPILED)):
        assert blocking.run(get) == first
    print(compiled())
"""


def test_compiling_begins_after_a_few_messages() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (done.stderr, done.stdout) == ("", "([], 0)\n(['layouts', 'packer_writer'], 1)\n")
