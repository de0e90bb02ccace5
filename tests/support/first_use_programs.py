"""Programs whose first step is the first use of connection tracking on a machine.

That step loads the kernel module, and only then do the sysctls of connection tracking exist.
"""

from __future__ import annotations

from textwrap import dedent

PRELUDE = """
from pathlib import Path

import anyio
from conntrack_aio import *
from conntrack_aio.model.settings import SETTINGS, sysctl_of
from conntrack_aio.sandbox import rules
from conntrack_aio.proc_sys import read_sysctl, set_sysctl
"""

_READ_PROGRAMS = {
    "a setting is read": """
        assert read_sysctl("net.netfilter.nf_conntrack_acct") == "0"
    """,
    "a setting that does not exist": """
        try:
            read_sysctl("net.netfilter.nf_conntrack_nonsense")
        except FileNotFoundError:
            assert Path("/proc/sys/net/netfilter/nf_conntrack_count").exists()
        else:
            raise AssertionError
    """,
    "conn.sysctls.read": """
        async def main():
            async with connect() as conn:
                assert (await conn.sysctls.read()).acct is False
        anyio.run(main)
    """,
    "connect": """
        async def main():
            async with connect() as conn:
                assert await conn.count() >= 0
                await conn.features()
        anyio.run(main)
    """,
    "a dump": """
        async def main():
            async with connect() as conn:
                await conn.list()
        anyio.run(main)
    """,
    "a stream": """
        async def main():
            async with connect() as conn, conn.events() as stream:
                assert stream.covers_older_flows is not None
                flow = Flow.udp("10.0.0.1", 1, "10.0.0.2", 2, timeout=9)
                await conn.create(flow)
                with anyio.fail_after(60):
                    event = await anext(stream)
                assert (event.type, event.flow.orig) == (EventType.NEW, flow.orig)
                await conn.delete(event.flow)
        anyio.run(main)
    """,
    "a filtered stream": """
        async def main():
            async with connect() as conn, conn.events(match=Match(proto=17)):
                pass
        anyio.run(main)
    """,
    "a table": """
        async def main():
            async with connect() as conn, conn.table() as table:
                flow = await conn.create(Flow.udp("10.0.0.1", 1, "10.0.0.2", 2, timeout=9))
                with anyio.fail_after(60):
                    await table.synced()
                assert table.find(flow.orig) is not None
                await conn.delete(flow)
        anyio.run(main)
    """,
    "a timeout policy": """
        async def main():
            async with connect() as conn:
                assert await conn.timeouts.list() == []
        anyio.run(main)
    """,
    "the expectations": """
        async def main():
            async with connect() as conn:
                assert await conn.expectations.list() == []
        anyio.run(main)
    """,
    "a sandbox": """
        rules.track_connections()
        assert read_sysctl("net.netfilter.nf_conntrack_events") in ("0", "1", "2")
    """,
}

_WRITE_PROGRAMS = {
    "a setting is set": """
        set_sysctl("net.netfilter.nf_conntrack_acct", 1)
        assert read_sysctl("net.netfilter.nf_conntrack_acct") == "1"
        set_sysctl("net.netfilter.nf_conntrack_acct", 0)
    """,
    "conn.sysctls.set": """
        async def main():
            async with connect() as conn:
                await conn.sysctls.set(acct=True)
                assert (await conn.sysctls.read()).acct is True
                await conn.sysctls.set(acct=False)
                try:
                    await conn.sysctls.set(dccp_loose=True, helper=True)
                except NotSupported as error:
                    assert "Linux had it until" in str(error)
        anyio.run(main)
    """,
    "a table that switches events on": """
        async def main():
            async with connect() as conn, conn.table(enable_events=True) as table:
                assert table.mode is TableMode.FOLLOWED
        anyio.run(main)
    """,
}

_FAILING_WRITE_PROGRAMS = {
    "a setting can't be set": """
        try:
            set_sysctl("net.netfilter.nf_conntrack_acct", 1)
        except OSError as error:
            assert error.errno == 30, error  # EROFS
        else:
            raise AssertionError
    """,
    "conn.sysctls.set reports a read-only /proc/sys": """
        async def main():
            async with connect() as conn:
                try:
                    await conn.sysctls.set(acct=True)
                except PermissionDenied as error:
                    assert "read-only" in str(error), error
                else:
                    raise AssertionError
        anyio.run(main)
    """,
    "a table that can't switch events on": """
        async def main():
            async with connect() as conn:
                try:
                    async with conn.table(enable_events=True):
                        raise AssertionError
                except PermissionDenied as error:
                    assert "read-only" in str(error), error
        anyio.run(main)
    """,
}

WRITABLE = {
    name: PRELUDE + dedent(text) for name, text in (_READ_PROGRAMS | _WRITE_PROGRAMS).items()
}
"""Programs for a machine where the settings can be written."""

READ_ONLY = {
    name: PRELUDE + dedent(text)
    for name, text in (_READ_PROGRAMS | _FAILING_WRITE_PROGRAMS).items()
}
"""Programs for a machine where ``/proc/sys`` is read-only, as in most containers."""
