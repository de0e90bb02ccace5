"""Network namespaces: naming one, and doing something inside it.

A namespace is entered on a thread made for it, which then ends: ``setns()`` moves a thread, and a
thread that went back could fail to. libc's ``setns`` and ``unshare`` are called through ctypes on
Python 3.11, which lacks them.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

import attrs

from ..errors import NamespaceError, kernel_error
from ..plain import as_int
from ..uapi.sched import CLONE_NEWNET
from ..uapi.socket import SIOCGSKNS

T = TypeVar("T")

NAMED = "/run/netns"
"""Where ``ip netns`` keeps its names."""


@attrs.frozen
class NetNS:
    """A network namespace by what names it. Nothing is opened until it is used."""

    _path: str | None
    _fd: int | None
    _label: str

    @classmethod
    def from_name(cls, name: str) -> NetNS:
        """A namespace that ``ip netns add`` made."""
        if not name or "/" in name or name in {".", ".."}:
            raise ValueError(f"{name!r} is not the name of a network namespace")
        return cls(f"{NAMED}/{name}", None, f"namespace {name!r}")

    @classmethod
    def from_path(cls, path: str | os.PathLike[str]) -> NetNS:
        """A namespace by a file: ``/proc/PID/ns/net``, or whatever one is mounted on."""
        return cls(os.fspath(path), None, f"namespace at {os.fspath(path)!r}")

    @classmethod
    def from_pid(cls, pid: int) -> NetNS:
        """The namespace that a process lives in when it is used."""
        try:
            pid = as_int(pid)
        except TypeError as error:
            raise TypeError(f"the id of a process is a number: {error}") from None
        return cls(f"/proc/{pid:d}/ns/net", None, f"namespace of process {pid}")

    @classmethod
    def from_fd(cls, fd: int) -> NetNS:
        """A namespace by a descriptor, which stays the caller's and open until it was used."""
        fd = as_int(fd)
        return cls(None, fd, f"namespace at descriptor {fd}")

    @classmethod
    def of(cls, value: str | os.PathLike[str] | NetNS) -> NetNS:
        """What ``netns=`` takes: a name, a path (anything with a slash), or a :class:`NetNS`."""
        if isinstance(value, NetNS):
            return value
        if isinstance(value, str) and "/" not in value:
            return cls.from_name(value)
        if isinstance(value, (str, os.PathLike)):  # pyright: ignore[reportUnnecessaryIsInstance]
            return cls.from_path(value)
        raise TypeError(
            f"netns takes a name, a path or a NetNS, not {value!r}; a number is ambiguous: "
            "say NetNS.from_pid() or NetNS.from_fd()"
        )

    def __str__(self) -> str:
        return self._label

    def open(self) -> int:
        """A new descriptor of the namespace. Raises :exc:`NamespaceError`."""
        try:
            if self._fd is not None:
                return os.dup(self._fd)
            assert self._path is not None
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            hint = {
                errno.ENOENT: "There is no such namespace",
                errno.EACCES: "To look into another user's process takes CAP_SYS_PTRACE",
            }.get(error.errno or 0, "")
            raise NamespaceError(error.errno or errno.EIO, f"open the {self}", hint=hint) from error
        except OverflowError as error:
            raise NamespaceError(errno.EBADF, f"open the {self}") from error


def run_inside(fd: int, function: Callable[[], T], label: str = "network namespace") -> T:
    """Call ``function`` on a new thread inside the namespace ``fd``, and wait for it.

    Raises what it raises, and :exc:`NamespaceError` where the namespace can't be entered.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            try:
                setns(fd, CLONE_NEWNET)
            except OSError as error:
                hint = {
                    errno.EPERM: "That needs CAP_SYS_ADMIN, here and in the user namespace "
                    "that owns the network namespace",
                    errno.EINVAL: "It is not a network namespace",
                }.get(error.errno or 0, "")
                raise NamespaceError(
                    error.errno or errno.EIO, f"enter the {label}", hint=hint
                ) from error
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, name="conntrack_aio netns", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def run_beside(fd: int, function: Callable[[], T]) -> T:
    """Call ``function`` in the namespace that the socket ``fd`` was made in.

    That is here, if this thread lives there too, else on a thread made for it. The namespace is
    asked of the socket (SIOCGSKNS, Linux 4.9), so that nobody has to keep a descriptor of it.
    """
    import fcntl

    try:
        namespace = fcntl.ioctl(fd, SIOCGSKNS)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise kernel_error(error.errno, "open another socket") from error
        hint = "This needs CAP_NET_ADMIN" if error.errno == errno.EPERM else ""
        raise NamespaceError(
            error.errno or errno.EIO, "find the connection's network namespace", hint=hint
        ) from error
    try:
        if _is_current(namespace):
            return function()
        return run_inside(namespace, function, "connection's network namespace")
    finally:
        os.close(namespace)


def _is_current(namespace: int) -> bool:
    try:
        return os.path.samestat(os.fstat(namespace), os.stat("/proc/thread-self/ns/net"))
    except OSError:
        return False  # no /proc here: the other way always works


if sys.version_info >= (3, 12):

    def setns(fd: int, kind: int) -> None:
        """Move this thread into a namespace. Raises :exc:`OSError`."""
        os.setns(fd, kind)

    def unshare(kinds: int) -> None:
        """Move this thread into new namespaces. Raises :exc:`OSError`."""
        os.unshare(kinds)

else:

    def _libc(name: str, *arguments: int) -> None:
        import ctypes

        function = getattr(ctypes.CDLL(None, use_errno=True), name)
        if function(*arguments):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def setns(fd: int, kind: int) -> None:
        """Move this thread into a namespace. Raises :exc:`OSError`."""
        _libc("setns", fd, kind)

    def unshare(kinds: int) -> None:
        """Move this thread into new namespaces. Raises :exc:`OSError`."""
        _libc("unshare", kinds)
