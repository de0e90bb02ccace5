"""The kernel's settings, ``/proc/sys``: by name, in the calling thread's network namespace."""

from __future__ import annotations

from typing import Protocol

CONNTRACK = "net.netfilter.nf_conntrack_"
"""What the names of connection tracking's settings begin with."""


class SysctlTree(Protocol):
    """Where settings are read and written."""

    def read(self, name: str, /) -> str:
        """As :func:`read_sysctl`."""
        ...

    def write(self, name: str, value: str | int, /) -> None:
        """As :func:`set_sysctl`."""
        ...


def read_sysctl(name: str) -> str:
    """The value of ``"net.netfilter.nf_conntrack_acct"`` and its like, without the line's end.

    Those of the network are the calling thread's namespace's. Raises :exc:`OSError`; ENOENT says
    that the kernel has none of that name, or has not loaded its module yet.
    """
    with open(_path(name)) as file:
        return file.read().rstrip("\n")


def set_sysctl(name: str, value: str | int) -> None:
    """Set what :func:`read_sysctl` reads. Raises :exc:`OSError`."""
    with open(_path(name), "w") as file:
        file.write(str(value))


def _path(name: str) -> str:
    return "/proc/sys/" + name.replace(".", "/")


class Files:
    """The running kernel's settings."""

    read = staticmethod(read_sysctl)
    write = staticmethod(set_sysctl)


def read_number(sysctls: SysctlTree, name: str) -> int | None:
    """A setting that is a number; ``None`` where it can't be read."""
    try:
        return int(sysctls.read(name))
    except (OSError, ValueError):
        return None
