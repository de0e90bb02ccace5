"""On a machine where nothing has used connection tracking yet, the first command works."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest
from support import fresh
from support.lab import Lab

import conntrack_aio
from conntrack_aio import NotSupported
from conntrack_aio import sysctls as settings
from conntrack_aio.netlink import modules
from conntrack_aio.sandbox import rules

pytestmark = pytest.mark.kernel

PRELUDE = """
from pathlib import Path

import anyio
from conntrack_aio import *
from conntrack_aio.model.sysctls import SETTINGS, sysctl_of
from conntrack_aio.sandbox import rules
from conntrack_aio.sysctls import read_sysctl, set_sysctl
from support import fresh

def hidden():
    fresh.hide()
    try:
        open("/proc/sys/net/netfilter/nf_conntrack_acct")
    except FileNotFoundError:
        return
    raise AssertionError("not hidden")
"""

FIRST = {
    "a setting is read": """
        hidden()
        assert read_sysctl("net.netfilter.nf_conntrack_acct") == "0"
    """,
    "a setting is set": """
        hidden()
        set_sysctl("net.netfilter.nf_conntrack_acct", 1)
        assert read_sysctl("net.netfilter.nf_conntrack_acct") == "1"
    """,
    "each of the settings is read": """
        for name in SETTINGS:
            hidden()
            try:
                told = read_sysctl(sysctl_of(name))
            except FileNotFoundError:
                told = None
            assert not fresh.is_hidden(), name
            path = Path("/proc/sys") / sysctl_of(name).replace(".", "/")
            assert told == (path.read_text().strip() if path.exists() else None), name
    """,
    "a setting that is none": """
        hidden()
        try:
            read_sysctl("net.netfilter.nf_conntrack_nonsense")
        except FileNotFoundError:
            assert not fresh.is_hidden()
        else:
            raise AssertionError
    """,
    "conn.sysctls": """
        async def main():
            hidden()
            async with connect() as conn:
                assert (await conn.sysctls.read()).acct is False
            hidden()
            async with connect() as conn:
                await conn.sysctls.set(acct=True)
                assert (await conn.sysctls.read()).acct is True
                try:
                    await conn.sysctls.set(dccp_loose=True, helper=True)
                except NotSupported as error:
                    assert "Linux had it until" in str(error)
        anyio.run(main)
    """,
    "a stream": """
        async def main():
            hidden()
            async with connect() as conn, conn.events() as stream:
                assert stream.covers_older_flows is not None
        anyio.run(main)
    """,
    "a table": """
        async def main():
            hidden()
            async with connect() as conn, conn.table(enable_events=True) as table:
                assert table.mode is TableMode.FOLLOWED
        anyio.run(main)
    """,
    "a sandbox": """
        hidden()
        rules.track_connections()
        set_sysctl("net.netfilter.nf_conntrack_events", 1)
    """,
    "a lab": """
        from conntrack_aio.sandbox.namespace import new_network_namespace
        from support.lab import Lab
        hidden()
        lab = Lab(new_network_namespace())
        lab.sysctl("nf_conntrack_events", 1)
        assert lab.read_sysctl("nf_conntrack_events") == "1"
    """,
}


@pytest.mark.parametrize("first", FIRST)
def test_the_first_thing_that_is_done(lab: Lab, first: str) -> None:
    body = "\n".join(line.removeprefix(" " * 8) for line in FIRST[first].splitlines())
    done = fresh.run(lab, "-c", PRELUDE + body)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["list", "count", "explain", "demo"])
def test_the_first_command(lab: Lab, command: str) -> None:
    done = fresh.run(lab, "-m", "support.fresh", command)
    assert done.returncode == 0
    assert done.stdout or command == "list"
    assert re.fullmatch(r"(conntrack-aio: no flow is tracked here: .*\n)?", done.stderr)
    if command == "demo":
        assert re.search(r"6 NEW, \d+ UPDATE, 6 DESTROY\), 0 lost", done.stdout)


def test_the_settings_are_read_and_set_at_one_place() -> None:
    """So that what looks at the file system itself can't forget the module."""
    root = Path(conntrack_aio.__file__).parents[1]
    found = {
        str(path.relative_to(root))
        for folder in ("conntrack_aio", "examples", "benchmarks")
        for path in (root / folder).rglob("*")
        if path.suffix in (".py", ".service") and '"/proc/sys/' in path.read_text()
    }
    assert found == {"conntrack_aio/sysctls.py"}


# Where it can't be loaded


@pytest.fixture
def absent(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings are not there, and no request brings them."""
    monkeypatch.setattr(settings, "_path", lambda name: f"/proc/no/such/{name}")


@pytest.mark.usefixtures("absent")
def test_a_kernel_without_ctnetlink_says_what_is_missing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Without:
        CTNETLINK = 200  # no kernel has as many subsystems

    monkeypatch.setattr(modules, "NFNL_SUBSYS", Without)
    for action in (settings.read_sysctl, lambda name: settings.set_sysctl(name, 1)):
        with pytest.raises(NotSupported, match="modprobe nf_conntrack_netlink") as caught:
            lab.run(action, "net.netfilter.nf_conntrack_acct")
        assert caught.value.errno == errno.EOPNOTSUPP
        assert caught.value.request == "load connection tracking"
    assert settings.read_number(settings.Files(), "net.netfilter.nf_conntrack_acct") is None


@pytest.mark.usefixtures("absent")
def test_a_kernel_without_netfilters_netlink_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Without:
        NETFILTER = 3  # NETLINK_UNUSED3, which no kernel has

    monkeypatch.setattr(modules, "NETLINK", Without)
    with pytest.raises(NotSupported, match="modprobe nf_conntrack_netlink"):
        settings.read_sysctl("net.netfilter.nf_conntrack_acct")


def test_without_the_capability_it_says_what_is_missing(lab: Lab) -> None:
    script = f"""{PRELUDE}
import ctypes
hidden()
names = ["net.netfilter.nf_conntrack_acct"]
assert ctypes.CDLL(None).prctl(24, 12, 0, 0, 0) == 0  # PR_CAPBSET_DROP, CAP_NET_ADMIN
import os, sys
os.execv(sys.executable, [sys.executable, "-c", '''
from conntrack_aio import PermissionDenied
from conntrack_aio.sysctls import read_sysctl
try:
    read_sysctl("net.netfilter.nf_conntrack_acct")
except PermissionDenied as error:
    print(error)
'''])
"""
    done = fresh.run(lab, "-c", script)
    assert done.stderr == ""
    assert re.fullmatch(
        r"load connection tracking: .* \(EPERM\)\. The module nf_conntrack is not loaded, .*"
        r"CAP_NET_ADMIN.*modprobe nf_conntrack_netlink.*\n",
        done.stdout,
    )


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "modprobe nf_tables"), (1, "modprobe nft-chain-1-filter"), (2, "modprobe nft_ct")],
)
def test_the_sandbox_says_which_module_is_missing(
    monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def commit(*changes: object) -> None:
        raise conntrack_aio.NotFound(errno.ENOENT, str(changes[number]))

    monkeypatch.setattr(rules, "commit", commit)
    with pytest.raises(NotSupported, match=words) as caught:
        rules.track_connections()
    assert caught.value.errno == errno.ENOENT
