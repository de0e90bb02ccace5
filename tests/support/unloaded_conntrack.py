"""A machine that has not used connection tracking yet: the settings are not there.

In a process of its own, and in a mount namespace of that, an empty file system lies over the
directory of the settings. It goes when the first ctnetlink request was sent, which is when a kernel
loads the module. ``python -m support.unloaded_conntrack`` runs the command so.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from conntrack_aio.cli import demo, main
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
    """Has the settings appear when a socket sends the first ctnetlink request."""

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
    """Have the settings appear, as a kernel that loads the module has them."""
    raw.observe(lambda socket: None)
    if is_hidden():
        _call("umount2", os.fsencode(DIRECTORY), _MNT_DETACH)


def is_hidden() -> bool:
    return not any(DIRECTORY.iterdir())


def hide() -> None:
    """Hide the settings of this process's network namespace. Call it while there is one thread."""
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
    """Run Python with these arguments in the lab; modules of the tests can be imported."""
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
    """The demo's child, in whose namespace the settings are hidden as soon as it is there."""
    enter = namespace.enter_sandbox

    def enter_and_hide() -> None:
        enter()
        hide()

    namespace.enter_sandbox = enter_and_hide
    return demo.main()


if __name__ == "__main__":
    if sys.argv[1:] == ["demo"]:
        sys.exit(_run_demo())
    hide()
    sys.exit(main(sys.argv[1:]))
