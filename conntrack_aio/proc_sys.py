"""Read and write sysctls in ``/proc/sys``, in the calling thread's network namespace.

The sysctls of connection tracking exist once its module is loaded. On a machine that has not used
it since boot, the first ctnetlink request loads it. So the functions here first make the kernel
load the module.
"""

from __future__ import annotations

import os
from typing import Protocol

from .kernel_modules import load_conntrack
from .model.sysctl_names import CONNTRACK

_OF_THE_MODULE = (CONNTRACK, "net.netfilter.nf_flowtable_")
"""The prefixes of the names of sysctls that exist only if a module of connection tracking is
loaded."""

_PROBE = f"{CONNTRACK}count"
"""The sysctl that exists whenever the module is loaded."""


class SysctlTree(Protocol):
    """A place where sysctls are read and written."""

    def read(self, name: str, /) -> str:
        """Return the value of a sysctl, like :func:`read_sysctl`."""
        ...

    def write(self, name: str, value: str | int, /) -> None:
        """Set a sysctl, like :func:`set_sysctl`."""
        ...

    def check_writable(self, name: str, /) -> None:
        """Check that a sysctl can be set, like :func:`check_writable`."""
        ...


def read_sysctl(name: str) -> str:
    """Return the value of a sysctl, without a newline.

    Sysctls of the network are those of the calling thread's network namespace. The first access to
    one of connection tracking makes the kernel load its module.

    :param name: the name, such as ``"net.netfilter.nf_conntrack_acct"``.
    :raises FileNotFoundError: when the kernel has no sysctl of this name in this namespace.
    :raises NotSupported: when the kernel cannot load connection tracking.
    :raises PermissionDenied: when the program may not make the kernel load connection tracking.
    :raises OSError: when the kernel refuses the access for another reason.
    """
    with open(_path_of(name)) as file:
        return file.read().rstrip("\n")


def set_sysctl(name: str, value: str | int) -> None:
    """Set a sysctl.

    :raises OSError: when the kernel refuses it; see :func:`read_sysctl`.
    """
    with open(_path_of(name), "w") as file:
        file.write(str(value))


def check_writable(name: str) -> None:
    """Check that the program may set a sysctl, which is not set.

    :raises OSError: when the kernel refuses to open it for writing; see :func:`read_sysctl`.
    """
    os.close(os.open(_path_of(name), os.O_WRONLY))


def _path_of(name: str) -> str:
    path = _path(name)
    if name.startswith(_OF_THE_MODULE) and not (
        os.path.exists(path) or os.path.exists(_path(_PROBE))
    ):
        load_conntrack()
    return path


def _path(name: str) -> str:
    return "/proc/sys/" + name.replace(".", "/")


class KernelSysctls:
    """The sysctls of the running kernel."""

    read = staticmethod(read_sysctl)
    write = staticmethod(set_sysctl)
    check_writable = staticmethod(check_writable)


def read_number(sysctls: SysctlTree, name: str) -> int | None:
    """Return a sysctl that is a number; ``None`` if it cannot be read or is not a number."""
    try:
        return int(sysctls.read(name))
    except (OSError, ValueError):
        return None
