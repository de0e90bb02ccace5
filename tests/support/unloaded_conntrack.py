"""Simulate a machine that has not loaded connection tracking: its sysctls do not exist.

A separate process, in a mount namespace of its own, mounts an empty file system over the directory
of the sysctls. It unmounts that file system when the first ctnetlink request is sent, which is when
a kernel loads the module. ``python -m support.unloaded_conntrack`` runs the command-line program
this way.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from conntrack_aio.cli import demonstration, main
from conntrack_aio.netlink import raw
from conntrack_aio.netlink.namespaces import unshare
from conntrack_aio.sandbox import namespace
from conntrack_aio.uapi.nfnetlink import NFNL_SUBSYS

from .lab import Lab
from .processes import TIMEOUT

DIRECTORY = Path("/proc/sys/net/netfilter")

_CLONE_NEWNS = 0x20000
_MS_REC_PRIVATE = 1 << 14 | 1 << 18
_MNT_DETACH = 2

_has_mount_namespace = False


class _LoadObserver:
    """Makes the sysctls appear when a socket sends the first ctnetlink request."""

    def sent(self, data: bytes) -> None:
        if data[5] == NFNL_SUBSYS.CTNETLINK:
            load()

    def received(self, data: bytes, sender: tuple[int, int]) -> None: ...

    def failed(self, error: OSError, data: bytes | None) -> None: ...


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)


def load() -> None:
    """Make the sysctls appear, as when a kernel loads the module."""
    raw.observe(lambda socket: None)
    if is_hidden():
        _call("umount2", os.fsencode(DIRECTORY), _MNT_DETACH)


def is_hidden() -> bool:
    return not any(DIRECTORY.iterdir())


def hide() -> None:
    """Hide the sysctls of this process's network namespace. The process must have one thread."""
    global _has_mount_namespace
    if not _has_mount_namespace:
        unshare(_CLONE_NEWNS)
        _call("mount", None, b"/", None, _MS_REC_PRIVATE, None)
        _has_mount_namespace = True
    _call("mount", b"none", os.fsencode(DIRECTORY), b"tmpfs", 0, None)
    assert is_hidden()
    loader = _LoadObserver()
    raw.observe(lambda socket: loader)


def run(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments in the lab. It can import the modules of the tests."""
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    start = partial(
        subprocess.run,
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return lab.run(start)


def _run_demo() -> int:
    """Run the demo, which hides the sysctls as soon as it has entered its sandbox."""
    enter = namespace.enter_sandbox

    def enter_and_hide() -> None:
        enter()
        hide()

    namespace.enter_sandbox = enter_and_hide
    return demonstration.main()


if __name__ == "__main__":
    if sys.argv[1:] == ["demo"]:
        sys.exit(_run_demo())
    hide()
    sys.exit(main(sys.argv[1:]))
