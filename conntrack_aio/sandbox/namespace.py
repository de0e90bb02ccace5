"""Enter a new network namespace, as root of a new user namespace if necessary."""

from __future__ import annotations

import errno
import os
import threading
import time
from typing import NamedTuple

from ..errors import KernelError, NamespaceError
from ..netlink.namespaces import unshare
from ..netlink.opening import require_linux
from ..proc_sys import read_sysctl
from ..uapi.sched import CLONE_NEWNET, CLONE_NEWUSER
from .links import set_up

_THREAD_EXIT_TIMEOUT = 1.0
"""Seconds that a thread may take to exit, after it was joined."""


class _Prohibition(NamedTuple):
    """A sysctl that forbids new namespaces, and what to do about it."""

    errno: int
    sysctl: str
    value: str
    remedy: str


_PROHIBITIONS = (
    _Prohibition(
        errno.EPERM,
        "kernel.apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor forbids user namespaces to unprivileged programs, as on Ubuntu since 24.04: run "
        "this as root, or run `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
    ),
    _Prohibition(
        errno.EPERM,
        "kernel.unprivileged_userns_clone",
        "0",
        "Only root may create user namespaces: run this as root, or run "
        "`sysctl kernel.unprivileged_userns_clone=1`",
    ),
    _Prohibition(
        errno.ENOSPC,
        "user.max_user_namespaces",
        "0",
        "User namespaces are disabled: run this as root, or run "
        "`sysctl user.max_user_namespaces=10000`",
    ),
)

_REMEDIES = {
    errno.EPERM: "New namespaces are forbidden (unshare, setns), for example by a container's "
    "default seccomp profile: run this as root outside the container, or start the container with "
    "--privileged",
    errno.ENOSYS: "New namespaces are forbidden (unshare, setns), or Python 3.11 lacks ctypes, "
    "which it needs for them: run this outside a container, or start the container with "
    "--privileged",
    errno.ENOSPC: "The limit of namespaces is reached: raise the sysctls "
    "user.max_user_namespaces and user.max_net_namespaces",
    errno.EINVAL: "The kernel lacks namespaces: use one with CONFIG_USER_NS and CONFIG_NET_NS",
}


def enter_sandbox() -> None:
    """Move this process into a new network namespace in which it is root and ``lo`` is up.

    This does not need root: it also creates a user namespace. If those are forbidden, root gets
    only the network namespace. The process must have one thread. It cannot leave the sandbox.

    :raises UnsupportedPlatform: when the system is not Linux.
    :raises NamespaceError: when the kernel refuses it, with a hint what to do. The process may then
        already be in a user namespace, without privileges.
    """
    require_linux()
    if not _is_single_threaded():
        # With more threads, the kernel would move only the calling thread, or refuse.
        raise NamespaceError(
            errno.EINVAL, "enter a sandbox", hint="The process must have only one thread"
        )
    try:
        _unshare()
        set_up("lo")
    except OSError as error:
        raise namespace_error(error, "enter a sandbox") from error


def _is_single_threaded() -> bool:
    # A thread that was joined may not have exited in the kernel yet.
    deadline = time.monotonic() + _THREAD_EXIT_TIMEOUT
    while len(os.listdir("/proc/self/task")) > 1:
        if threading.active_count() > 1 or time.monotonic() > deadline:
            return False
        os.sched_yield()
    return True


def _unshare() -> None:
    uid, gid = os.geteuid(), os.getegid()
    try:
        unshare(CLONE_NEWUSER | CLONE_NEWNET)
    except OSError as error:
        try:
            unshare(CLONE_NEWNET)
        except OSError:
            raise error from None
        return
    # Without root, the kernel requires setgroups to be denied before it accepts a gid_map.
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {uid} 1"),
        ("gid_map", f"0 {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def namespace_error(error: OSError, request: str) -> NamespaceError:
    """Return the error to raise when the kernel refuses a namespace, with a hint what to do.

    :param error: what a system call or a netlink request raised.
    :param request: what was attempted, for the message.
    """
    code = error.errno or errno.EIO
    detail = error.detail if isinstance(error, KernelError) else None
    return NamespaceError(code, request, detail, _remedy(code))


def _remedy(code: int) -> str:
    # AppArmor may also grant the namespace and refuse every operation in it, so that any step may
    # fail with the same code.
    if code == errno.EACCES:
        code = errno.EPERM
    for prohibition in _PROHIBITIONS:
        if prohibition.errno == code:
            try:
                forbidden = read_sysctl(prohibition.sysctl) == prohibition.value
            except OSError:
                continue  # not this distribution's kernel
            if forbidden:
                return prohibition.remedy
    return _REMEDIES.get(code, "")
