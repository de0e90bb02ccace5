"""The first use of the library works on a machine that has not loaded connection tracking."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest
from support import unloaded_conntrack
from support.first_use_programs import PRELUDE, WRITABLE
from support.lab import Lab

import conntrack_aio
from conntrack_aio import NotSupported, kernel_modules
from conntrack_aio import proc_sys as settings
from conntrack_aio.sandbox import rules

pytestmark = pytest.mark.kernel

HIDDEN = """
from support import unloaded_conntrack

def hide_settings():
    unloaded_conntrack.hide()
    try:
        open("/proc/sys/net/netfilter/nf_conntrack_acct")
    except FileNotFoundError:
        return
    raise AssertionError("not hidden")

hide_settings()
"""

EACH_SETTING = """
unloaded_conntrack.load()
for name in SETTINGS:
    hide_settings()
    try:
        value = read_sysctl(sysctl_of(name))
    except FileNotFoundError:
        value = None
    assert not unloaded_conntrack.is_hidden(), name
    path = Path("/proc/sys") / sysctl_of(name).replace(".", "/")
    assert value == (path.read_text().strip() if path.exists() else None), name
"""

LAB = """
from support.namespaces import new_network_namespace
from support.lab import Lab
lab = Lab(new_network_namespace())
lab.sysctl("nf_conntrack_events", 1)
assert lab.read_sysctl("nf_conntrack_events") == "1"
"""

FIRST_USES = WRITABLE | {
    "every setting is read": PRELUDE + EACH_SETTING,
    "a lab": PRELUDE + LAB,
}


@pytest.mark.parametrize("first", FIRST_USES)
def test_the_first_use_works(lab: Lab, first: str) -> None:
    done = unloaded_conntrack.run(lab, "-c", HIDDEN + FIRST_USES[first])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["list", "count", "explain", "demo"])
def test_the_first_command_works(lab: Lab, command: str) -> None:
    done = unloaded_conntrack.run(lab, "-m", "support.unloaded_conntrack", command)
    assert done.returncode == 0
    assert done.stdout or command == "list"
    assert re.fullmatch(r"(conntrack-aio: no flow is tracked here: .*\n)?", done.stderr)
    if command == "demo":
        assert re.search(r"6 NEW, \d+ UPDATE, 6 DESTROY\), 0 lost", done.stdout)


def test_only_one_module_accesses_sysctls() -> None:
    """Other code would not load the kernel module before it accesses the files."""
    root = Path(conntrack_aio.__file__).parents[1]
    found = {
        str(path.relative_to(root))
        for folder in ("conntrack_aio", "examples", "benchmarks")
        for path in (root / folder).rglob("*")
        if path.suffix in (".py", ".service") and '"/proc/sys/' in path.read_text()
    }
    assert found == {"conntrack_aio/proc_sys.py"}


# -- the module cannot be loaded -----------------------------------------------------------------


@pytest.fixture
def absent_sysctls(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the sysctls absent_sysctls, even after a ctnetlink request."""
    monkeypatch.setattr(settings, "_path", lambda name: f"/proc/no/such/{name}")


@pytest.mark.usefixtures("absent_sysctls")
def test_the_error_names_the_module_on_a_kernel_without_ctnetlink(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Without:
        CTNETLINK = 200  # a subsystem that no kernel has

    monkeypatch.setattr(kernel_modules, "NFNL_SUBSYS", Without)
    for action in (settings.read_sysctl, lambda name: settings.set_sysctl(name, 1)):
        with pytest.raises(NotSupported, match="modprobe nf_conntrack_netlink") as caught:
            lab.run(action, "net.netfilter.nf_conntrack_acct")
        assert caught.value.errno == errno.EOPNOTSUPP
        assert caught.value.request == "load connection tracking"
    assert settings.read_number(settings.KernelSysctls(), "net.netfilter.nf_conntrack_acct") is None


@pytest.mark.usefixtures("absent_sysctls")
def test_the_error_names_the_module_on_a_kernel_without_nfnetlink(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Without:
        NETFILTER = 3  # NETLINK_UNUSED3, which no kernel has

    monkeypatch.setattr(kernel_modules, "NETLINK", Without)
    with pytest.raises(NotSupported, match="modprobe nf_conntrack_netlink"):
        settings.read_sysctl("net.netfilter.nf_conntrack_acct")


def test_the_error_names_the_missing_capability(lab: Lab) -> None:
    script = f"""{HIDDEN}
import ctypes
names = ["net.netfilter.nf_conntrack_acct"]
assert ctypes.CDLL(None).prctl(24, 12, 0, 0, 0) == 0  # PR_CAPBSET_DROP, CAP_NET_ADMIN
import os, sys
os.execv(sys.executable, [sys.executable, "-c", '''
from conntrack_aio import PermissionDenied, connect
from conntrack_aio.proc_sys import read_sysctl
try:
    read_sysctl("net.netfilter.nf_conntrack_acct")
except PermissionDenied as error:
    print(error)
'''])
"""
    done = unloaded_conntrack.run(lab, "-c", script)
    assert done.stderr == ""
    assert re.fullmatch(
        r"load connection tracking: .* \(EPERM\)\. The module nf_conntrack is not loaded, .*"
        r"CAP_NET_ADMIN.*modprobe nf_conntrack_netlink.*\n",
        done.stdout,
    )


@pytest.mark.parametrize(
    ("number", "module"),
    [(0, "modprobe nf_tables"), (1, "modprobe nft-chain-1-filter"), (2, "modprobe nft_ct")],
)
def test_the_sandbox_names_the_missing_module(
    monkeypatch: pytest.MonkeyPatch, number: int, module: str
) -> None:
    def commit(*changes: object) -> None:
        raise conntrack_aio.NotFound(errno.ENOENT, str(changes[number]))

    monkeypatch.setattr(rules, "commit", commit)
    with pytest.raises(NotSupported, match=module) as caught:
        rules.track_connections()
    assert caught.value.errno == errno.ENOENT
