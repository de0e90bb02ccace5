"""Enter the sandbox with and without root, and check the errors where that is forbidden."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from conntrack_aio.errors import NamespaceError
from conntrack_aio.sandbox import namespace

kernel = pytest.mark.kernel


def child(script: str) -> str:
    """Run a script in a separate process, as the user who runs the tests."""
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not result.returncode, result.stderr
    return result.stdout


USE = """
import ctypes, os
from conntrack_aio import proc_sys
from conntrack_aio.sandbox import namespace, rules, traffic
from support.namespaces import new_network_namespace

def use():
    before = os.stat("/proc/self/ns/net")
    namespace.enter_sandbox()
    assert not os.path.samestat(os.stat("/proc/self/ns/net"), before)
    assert os.geteuid() == os.getegid() == 0
    rules.track_connections()
    for address in ("127.0.0.1", "::1"):
        traffic.tcp_exchange(address)
        traffic.udp_exchange(address)
        traffic.ping(address, 1)
    proc_sys.set_sysctl("net.netfilter.nf_conntrack_acct", 1)
    os.close(new_network_namespace())
    print(proc_sys.read_sysctl("net.netfilter.nf_conntrack_count"))
"""

# If the user namespace maps 65534, the script becomes the user nobody. Otherwise root of that
# namespace is not root of the machine anyway. After setuid() a process is not dumpable and does not
# own /proc/self, until it calls prctl().
NOBODY = """
if os.geteuid() == 0 and int(open("/proc/self/uid_map").read().split()[2]) > 65534:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    assert ctypes.CDLL(None).prctl(4, 1, 0, 0, 0) == 0  # PR_SET_DUMPABLE
"""


@kernel
@pytest.mark.parametrize("become_user", ["", NOBODY], ids=["this user", "nobody"])
def test_the_sandbox_needs_no_root(become_user: str) -> None:
    assert child(f"{USE}{become_user}use()") == "6\n"


@kernel
def test_threads_that_have_ended_do_not_prevent_the_sandbox() -> None:
    script = f"""{USE}
import threading
for _ in range(20):
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
use()
"""
    assert child(script) == "6\n"


@kernel
def test_root_needs_no_user_namespace() -> None:
    script = f"""{USE}
from conntrack_aio.uapi.sched import CLONE_NEWUSER
unshare = namespace.unshare
def forbidden(kinds):
    if kinds & CLONE_NEWUSER:
        raise PermissionError(1, "no")
    unshare(kinds)
namespace._unshare()  # become root of a user namespace, whichever user this is
namespace.unshare = forbidden
use()
"""
    assert child(script) == "6\n"


@kernel
def test_the_error_names_the_sysctl_that_disables_user_namespaces() -> None:
    # The limit can be set in a separate user namespace. The script is not root there, so that it
    # loses its capabilities when it executes the next program.
    script = """
import os, sys
from conntrack_aio import proc_sys
from conntrack_aio.netlink.namespaces import unshare
from conntrack_aio.uapi.sched import CLONE_NEWUSER
uid, gid = os.geteuid(), os.getegid()
unshare(CLONE_NEWUSER)
for name, line in ("setgroups", "deny"), ("uid_map", f"7 {uid} 1"), ("gid_map", f"7 {gid} 1"):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(line)
proc_sys.set_sysctl("user.max_user_namespaces", 0)
os.execv(sys.executable, [sys.executable, "-c", '''
import os
from conntrack_aio.errors import NamespaceError
from conntrack_aio.sandbox.namespace import enter_sandbox
assert os.geteuid() == 7
try:
    enter_sandbox()
except NamespaceError as error:
    print(error.errno, error)
'''])
"""
    assert child(script) == (
        f"{errno.ENOSPC} enter a sandbox: No space left on device (ENOSPC). "
        "User namespaces are disabled: run this as root, or run "
        "`sysctl user.max_user_namespaces=10000`\n"
    )


@pytest.mark.parametrize(
    ("sysctls", "code", "advice"),
    [
        (
            {"kernel.apparmor_restrict_unprivileged_userns": "1"},
            errno.EPERM,
            "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
        ),
        (
            {"kernel.apparmor_restrict_unprivileged_userns": "1"},
            errno.EACCES,
            "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
        ),
        (
            {
                "kernel.apparmor_restrict_unprivileged_userns": "0",
                "kernel.unprivileged_userns_clone": "0",
            },
            errno.EPERM,
            "`sysctl kernel.unprivileged_userns_clone=1`",
        ),
        ({"user.max_user_namespaces": "0"}, errno.EPERM, "--privileged"),
        ({"user.max_user_namespaces": "9"}, errno.ENOSPC, "raise the sysctls"),
        ({}, errno.EINVAL, "CONFIG_USER_NS"),
    ],
)
# The kernel refuses the user namespace, or AppArmor allows it and then refuses everything inside.
@pytest.mark.parametrize("step", ["_unshare", "set_up"])
def test_the_error_names_the_setting_that_forbids_it(
    monkeypatch: pytest.MonkeyPatch,
    sysctls: dict[str, str],
    code: int,
    advice: str,
    step: str,
) -> None:
    def read_sysctl(name: str) -> str:
        if name not in sysctls:
            raise FileNotFoundError(errno.ENOENT, name)
        return sysctls[name]

    def refuse(*_: object) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(namespace, "_is_single_threaded", lambda: True)
    monkeypatch.setattr(namespace, "read_sysctl", read_sysctl)
    monkeypatch.setattr(namespace, "_unshare", lambda: None)
    monkeypatch.setattr(namespace, step, refuse)
    with pytest.raises(NamespaceError, match=re.escape(advice)) as caught:
        namespace.enter_sandbox()
    assert caught.value.errno == code
    assert caught.value.request == "enter a sandbox"


def test_a_process_with_several_threads_is_refused() -> None:
    here = os.stat("/proc/self/ns/net")
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with pytest.raises(NamespaceError, match="one thread"):
            namespace.enter_sandbox()
    finally:
        done.set()
        thread.join()
    assert os.path.samestat(os.stat("/proc/self/ns/net"), here)
