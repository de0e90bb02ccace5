"""Network namespaces: naming one, and doing something inside it.

A namespace is entered on a thread made for it, which then ends: ``setns()`` moves a thread, and a
thread that went back could fail to. libc's ``setns`` and ``unshare`` are called through ctypes on
Python 3.11, which lacks them.

Nothing is ever done in a namespace because it may be the right one. What identifies a namespace is
its file's device and inode, which no other one has while it lives; a socket that was made in it
keeps it alive.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

import attrs

from ..errors import SHORTAGES, KernelError, NamespaceError, call_error, failed, kernel_error
from ..plain import as_int, as_str, describe_value
from ..uapi.sched import CLONE_NEWNET
from ..uapi.socket import SIOCGSKNS
from .threads import no_thread

T = TypeVar("T")

Identity = tuple[int, int]
"""What no other living namespace has: the device and the inode of its file."""

_HERE = "/proc/thread-self/ns/net"
_SHORTAGES = SHORTAGES - {errno.ENOSPC}  # of which the kernel says that namespaces are too many

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
        try:
            name = as_str(name)
        except TypeError as error:
            raise TypeError(f"the name of a network namespace is text: {error}") from None
        if not name or "/" in name or name in {".", ".."}:
            raise ValueError(f"{describe_value(name)} is not the name of a network namespace")
        return cls(f"{NAMED}/{name}", None, f"namespace {name!r}")

    @classmethod
    def from_path(cls, path: str | os.PathLike[str]) -> NetNS:
        """A namespace by a file: ``/proc/PID/ns/net``, or whatever one is mounted on."""
        path = os.fspath(path)
        if issubclass(type(path), str):  # pyright: ignore[reportUnnecessaryIsInstance] - or bytes
            path = as_str(path)
        return cls(path, None, f"namespace at {describe_value(path)}")

    @classmethod
    def from_pid(cls, pid: int) -> NetNS:
        """The namespace that a process lives in when it is used.

        :raises TypeError: when the id is not an integer.
        :raises ValueError: when it has more than 31 bits, so that no process has it.
        """
        try:
            pid = as_int(pid)
        except TypeError as error:
            raise TypeError(f"the id of a process is a number: {error}") from None
        if pid.bit_length() > 31:
            raise ValueError(f"the id of a process has at most 31 bits; got {describe_value(pid)}")
        return cls(f"/proc/{pid:d}/ns/net", None, f"namespace of process {pid}")

    @classmethod
    def from_fd(cls, fd: int) -> NetNS:
        """A namespace by a descriptor, which stays the caller's and open until it was used."""
        fd = as_int(fd)
        return cls(None, fd, f"namespace at descriptor {describe_value(fd)}")

    @classmethod
    def of(cls, value: str | os.PathLike[str] | NetNS) -> NetNS:
        """What ``netns=`` takes: a name, a path (anything with a slash), or a :class:`NetNS`."""
        if isinstance(value, NetNS):
            return value
        if issubclass(type(value), str):
            value = as_str(value)
            if "/" not in value:
                return cls.from_name(value)
        if isinstance(value, (str, os.PathLike)):  # pyright: ignore[reportUnnecessaryIsInstance]
            return cls.from_path(value)
        raise TypeError(
            f"netns takes a name, a path or a NetNS, not {describe_value(value)}; a number is "
            "ambiguous: say NetNS.from_pid() or NetNS.from_fd()"
        )

    def __str__(self) -> str:
        return self._label

    def open(self) -> int:
        """A new descriptor of the namespace.

        Raises :exc:`NamespaceError`, and :exc:`ResourceExhausted` if there are no more descriptors.
        """
        try:
            if self._fd is not None:
                return os.dup(self._fd)
            assert self._path is not None
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            _check_shortage(error, f"open the {self}")
            refusal = call_error(
                error, "dup()" if self._path is None else "open()", cls=NamespaceError
            )
            refusal.hint = {
                errno.ENOENT: "There is no such namespace",
                errno.EACCES: "This program may not open it; to look into another user's process "
                "takes CAP_SYS_PTRACE",
            }.get(error.errno or 0, refusal.hint)
            raise failed(f"open the {self}", refusal) from error
        except OverflowError as error:
            raise NamespaceError(errno.EBADF, f"open the {self}") from error


def run_inside(fd: int, function: Callable[[], T], label: str = "network namespace") -> T:
    """Call ``function`` on a new thread inside the namespace ``fd``, and wait for it.

    Raises what it raises, :exc:`NamespaceError` where the namespace can't be entered, and
    :exc:`ResourceExhausted` if no thread can be had for it.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            try:
                setns(fd, CLONE_NEWNET)
            except OSError as error:
                raise _not_entered(error, label) from error
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, name="conntrack_aio netns", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise failed(f"enter the {label}", no_thread()) from error
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _not_entered(error: OSError, label: str) -> KernelError:
    refusal = call_error(
        error,
        "setns()",
        needs="That needs CAP_SYS_ADMIN, here and in the user namespace that owns the network "
        "namespace",
        cls=NamespaceError,
    )
    if error.errno == errno.EINVAL:
        refusal.hint = "It is not a network namespace"
    return failed(f"enter the {label}", refusal)


def run_beside(fd: int, home: Identity | None, name: NetNS | None, function: Callable[[], T]) -> T:
    """Call ``function`` in the namespace that the socket ``fd`` was made in.

    That is here, if this thread lives there too, else on a thread made for it. The namespace is
    asked of the socket (SIOCGSKNS, Linux 4.9), so that nobody has to keep a descriptor of it. Where
    that is refused, it is opened by its name once more, and taken if it is still the same.

    :param home: identifies the namespace; ``None`` where nothing did when the socket was made.
    :param name: what it was opened by, if it was.

    Raises what it raises; :exc:`NamespaceError` if there is no way to the namespace, or none that
    is known to lead there; and :exc:`ResourceExhausted` without descriptors or threads.
    """
    if home is not None and home == current():
        return function()
    namespace = _namespace_of(fd, home, name)
    try:
        if home is None and current() is not None and identify(namespace) == current():
            return function()
        return run_inside(namespace, function, "connection's network namespace")
    finally:
        os.close(namespace)


def _namespace_of(fd: int, home: Identity | None, name: NetNS | None) -> int:
    import fcntl

    try:
        return fcntl.ioctl(fd, SIOCGSKNS)
    except OSError as error:
        request = "find the connection's network namespace"
        _check_shortage(error, request)
        if name is not None and home is not None:
            namespace = name.open()
            if identify(namespace) == home:
                return namespace
            os.close(namespace)
        refusal = call_error(
            error, "ioctl(SIOCGSKNS)", needs="This needs CAP_NET_ADMIN", cls=NamespaceError
        )
        raise failed(request, refusal) from error


def identify(namespace: int) -> Identity | None:
    """Return what identifies the namespace of a descriptor; ``None`` if that can't be known."""
    try:
        info = os.fstat(namespace)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def current() -> Identity | None:
    """Return what identifies the calling thread's namespace; ``None`` without a /proc."""
    try:
        info = os.stat(_HERE)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _check_shortage(error: OSError, request: str) -> None:
    """Raises :exc:`ResourceExhausted` if that is what the error means."""
    if error.errno in _SHORTAGES:
        raise kernel_error(error.errno, request) from error


if sys.version_info >= (3, 12):

    def setns(fd: int, kind: int) -> None:
        """Move this thread into a namespace. Raises :exc:`OSError`."""
        os.setns(fd, kind)

    def unshare(kinds: int) -> None:
        """Move this thread into new namespaces. Raises :exc:`OSError`."""
        os.unshare(kinds)

else:

    def _libc(name: str, *arguments: int) -> None:
        try:
            import ctypes

            function = getattr(ctypes.CDLL(None, use_errno=True), name)
        except (ImportError, AttributeError, MemoryError, OSError) as error:
            # Of a Python without ctypes, of a C library without the call, or where memory may not
            # be both written and executed.
            hint = f"Python 3.11 makes this call by ctypes, which can't be loaded: {error!r}"
            raise NamespaceError(errno.ENOSYS, f"{name}()", hint=hint) from error
        if function(*arguments):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def setns(fd: int, kind: int) -> None:
        """Move this thread into a namespace. Raises :exc:`OSError`."""
        _libc("setns", fd, kind)

    def unshare(kinds: int) -> None:
        """Move this thread into new namespaces. Raises :exc:`OSError`."""
        _libc("unshare", kinds)
