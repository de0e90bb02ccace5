"""Making a network namespace, and becoming root in it where one is not."""

from __future__ import annotations

import errno
import os
import threading
import time
from typing import NamedTuple

from ..errors import KernelError, NamespaceError
from ..netlink.namespaces import run_inside, unshare
from ..netlink.opening import require_linux
from ..sysctls import read_sysctl
from ..uapi.sched import CLONE_NEWNET, CLONE_NEWUSER
from .links import set_up

_HERE = "/proc/thread-self/ns/net"
_THREAD_END = 1.0
"""Seconds that a thread's end may take."""


class _Prohibition(NamedTuple):
    """A sysctl that forbids it, and what to do then."""

    errno: int
    sysctl: str
    value: str
    remedy: str


_PROHIBITIONS = (
    _Prohibition(
        errno.EPERM,
        "kernel.apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor keeps user namespaces from unprivileged programs here, as Ubuntu has it since "
        "24.04: run this as root, or do `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
    ),
    _Prohibition(
        errno.EPERM,
        "kernel.unprivileged_userns_clone",
        "0",
        "User namespaces are for root alone here: run this as root, or do "
        "`sysctl kernel.unprivileged_userns_clone=1`",
    ),
    _Prohibition(
        errno.ENOSPC,
        "user.max_user_namespaces",
        "0",
        "User namespaces are switched off here: run this as root, or do "
        "`sysctl user.max_user_namespaces=10000`",
    ),
)

_REMEDIES = {
    errno.EPERM: "Something forbids new namespaces here (unshare, setns), as the usual seccomp "
    "profile of a container does: run this as root outside of it, or in one started with "
    "--privileged",
    errno.ENOSYS: "Something forbids new namespaces here (unshare, setns), or Python 3.11 lacks "
    "ctypes, by which it makes them: run this outside of a container, or in one started with "
    "--privileged",
    errno.ENOSPC: "There are as many namespaces as there may be: raise the sysctls "
    "user.max_user_namespaces and user.max_net_namespaces",
    errno.EINVAL: "This takes a kernel with namespaces (CONFIG_USER_NS, CONFIG_NET_NS)",
}


def enter_sandbox() -> None:
    """Move this process into a network namespace of its own, where it is root and ``lo`` is up.

    Root is not needed: a user namespace of its own comes with it. Where those are forbidden, root
    gets the network namespace alone. The process must have one thread, and there is no way back.

    Raises :exc:`UnsupportedPlatform`, and :exc:`NamespaceError`, whose hint says what to do about
    it. The process may then be in a user namespace already, without any privilege.
    """
    require_linux()
    if not _is_single_threaded():
        # The kernel would move the calling thread alone, or none.
        raise NamespaceError(
            errno.EINVAL, "enter a sandbox", hint="That takes a process with one thread"
        )
    try:
        _unshare()
        set_up("lo")
    except OSError as error:
        raise _explained(error, "enter a sandbox") from error


def _is_single_threaded() -> bool:
    # A thread that has been joined may still be about to leave the kernel.
    deadline = time.monotonic() + _THREAD_END
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
    # Without setgroups() denied, nobody but root may map his group.
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {uid} 1"),
        ("gid_map", f"0 {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def new_network_namespace() -> int:
    """Make a network namespace in which ``lo`` is up: a descriptor of it, which the caller closes.

    The namespace lives as long as the descriptor, or what was made inside. Needs CAP_SYS_ADMIN:
    root, or a process that has entered a sandbox. Raises :exc:`NamespaceError`.
    """
    here = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # A thread that was made to enter this very namespace can leave it for good.
        return run_inside(here, _leave_for_a_new_one)
    finally:
        os.close(here)


def _leave_for_a_new_one() -> int:
    try:
        unshare(CLONE_NEWNET)
        set_up("lo")
    except OSError as error:
        raise _explained(error, "make a network namespace") from error
    return os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)


def _explained(error: OSError, request: str) -> NamespaceError:
    code = error.errno or errno.EIO
    detail = error.detail if isinstance(error, KernelError) else None
    return NamespaceError(code, request, detail, _remedy(code))


def _remedy(code: int) -> str:
    # AppArmor also grants the namespace and then refuses whatever is tried in it, so that the
    # same code may come from any step.
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
