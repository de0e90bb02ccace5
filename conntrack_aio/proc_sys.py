"""The kernel's settings, ``/proc/sys``: by name, in the calling thread's network namespace.

Those of connection tracking exist once its module is loaded. On a machine that has not used it
since it booted, that is when the first ctnetlink request is sent. So whoever reads or sets one here
has the kernel load it first.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

CONNTRACK = "net.netfilter.nf_conntrack_"
"""What the names of connection tracking's settings begin with."""

_OF_THE_MODULE = (CONNTRACK, "net.netfilter.nf_flowtable_")
"""What the names of the settings begin with that come with its module, or with those it needs."""

_ALWAYS_THERE = f"{CONNTRACK}count"
"""The setting by which is seen whether the module is loaded."""


class SysctlTree(Protocol):
    """Where settings are read and written."""

    def read(self, name: str, /) -> str:
        """As :func:`read_sysctl`."""
        ...

    def write(self, name: str, value: str | int, /) -> None:
        """As :func:`set_sysctl`."""
        ...


def read_sysctl(name: str) -> str:
    """Return the value of ``"net.netfilter.nf_conntrack_acct"`` and its like, without a newline.

    Settings of the network are those of the calling thread's namespace. The first one of connection
    tracking makes the kernel load its module.

    :raises FileNotFoundError: the kernel has no setting of that name in this namespace.
    :raises KernelError: connection tracking is not loaded, and the kernel could not load it
        (:exc:`NotSupported`), or may not for this program (:exc:`PermissionDenied`).
    :raises OSError: whatever else the kernel says.
    """
    with open(_path_of(name)) as file:
        return file.read().rstrip("\n")


def set_sysctl(name: str, value: str | int) -> None:
    """Set what :func:`read_sysctl` reads, which raises the same errors."""
    with open(_path_of(name), "w") as file:
        file.write(str(value))


def _path_of(name: str) -> str:
    path = _path(name)
    if name.startswith(_OF_THE_MODULE) and not (
        os.path.exists(path) or os.path.exists(_path(_ALWAYS_THERE))
    ):
        _load()
    return path


def _path(name: str) -> str:
    return "/proc/sys/" + name.replace(".", "/")


def _load_nothing() -> None:
    """Until :func:`load_by` is called."""


_load: Callable[[], None] = _load_nothing


def load_by(load: Callable[[], None]) -> None:
    """Have ``load`` called where connection tracking's settings are missing.

    It makes the kernel load connection tracking, or raises a :exc:`KernelError` that says what to
    do. It is passed from above because it takes a netlink socket.
    """
    global _load
    _load = load


class Files:
    """The running kernel's settings."""

    read = staticmethod(read_sysctl)
    write = staticmethod(set_sysctl)


def read_number(sysctls: SysctlTree, name: str) -> int | None:
    """Return a setting that is a number; ``None`` where it can't be read."""
    try:
        return int(sysctls.read(name))
    except (OSError, ValueError):
        return None
