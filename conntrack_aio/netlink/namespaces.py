"""Call functions inside network namespaces.

A namespace is entered on a new thread, which then ends: ``setns()`` moves a thread, and moving it
back could fail. Python 3.11 lacks ``setns`` and ``unshare``, so libc's are called through ctypes.

A function is never run in a namespace unless it is certainly the right one. The device and inode of
its file identify a namespace: no other namespace has them while it lives. A socket that was opened
in a namespace keeps it alive.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from ..errors import (
    EXHAUSTION_ERRNOS,
    KernelError,
    NamespaceError,
    call_error,
    kernel_error,
    request_error,
)
from ..uapi.sched import CLONE_NEWNET
from ..uapi.socket import SIOCGSKNS
from .threads import no_thread

T = TypeVar("T")


class NamedNamespace(Protocol):
    """What names a namespace, and opens it: a :class:`NetNS`."""

    def open(self) -> int: ...


Identity = tuple[int, int]
"""The device and inode of a namespace's file, which no other living namespace has."""

_HERE = "/proc/thread-self/ns/net"
# With ENOSPC the kernel refuses too many namespaces, which is no shortage here.
_TEMPORARY_ERRNOS = EXHAUSTION_ERRNOS - {errno.ENOSPC}

NAMES_DIRECTORY = "/run/netns"
"""The directory in which ``ip netns`` keeps its names."""


def run_inside(fd: int, function: Callable[[], T], label: str = "network namespace") -> T:
    """Call ``function`` on a new thread inside the namespace ``fd``, and wait for its result.

    :param fd: a descriptor of the namespace.
    :param function: the function, whose exceptions are raised here.
    :param label: the name of the namespace for errors.
    :raises NamespaceError: when the namespace cannot be entered.
    :raises ResourceExhausted: when no thread can be started.
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
        raise request_error(f"enter the {label}", no_thread()) from error
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _not_entered(error: OSError, label: str) -> KernelError:
    refusal = call_error(
        error,
        "setns()",
        needs="This needs CAP_SYS_ADMIN, here and in the user namespace that owns the network "
        "namespace",
        cls=NamespaceError,
    )
    if error.errno == errno.EINVAL:
        refusal.hint = "It is not a network namespace"
    return request_error(f"enter the {label}", refusal)


def run_in_namespace_of(
    fd: int, home: Identity | None, netns: NamedNamespace | None, function: Callable[[], T]
) -> T:
    """Call ``function`` in the network namespace in which the socket ``fd`` was opened.

    The call is made in this thread if it is in that namespace too, else on a new thread. The socket
    itself leads to its namespace (SIOCGSKNS, Linux 4.9), so nothing has to keep a descriptor of it.
    Where that ioctl is refused, the namespace is opened again as it was the first time, and used
    only if it is still the same.

    :param fd: the descriptor of the socket.
    :param home: the identity of the namespace; ``None`` if it was unknown when the socket was made.
    :param netns: how the namespace was opened, if it was.
    :param function: the function, whose exceptions are raised here.
    :raises NamespaceError: when the namespace cannot be reached from the socket, or cannot be
        identified with certainty.
    :raises ResourceExhausted: when there are no more descriptors or threads.
    """
    if home is not None and home == current():
        return function()
    namespace = _namespace_of(fd, home, netns)
    try:
        if home is None and current() is not None and identify(namespace) == current():
            return function()
        return run_inside(namespace, function, "connection's network namespace")
    finally:
        os.close(namespace)


def _namespace_of(fd: int, home: Identity | None, netns: NamedNamespace | None) -> int:
    import fcntl

    try:
        return fcntl.ioctl(fd, SIOCGSKNS)
    except OSError as error:
        request = "find the connection's network namespace"
        check_shortage(error, request)
        if netns is not None and home is not None:
            namespace = netns.open()
            if identify(namespace) == home:
                return namespace
            os.close(namespace)
        refusal = call_error(
            error, "ioctl(SIOCGSKNS)", needs="This needs CAP_NET_ADMIN", cls=NamespaceError
        )
        raise request_error(request, refusal) from error


def identity_of(info: os.stat_result) -> Identity:
    """Return the identity of the namespace whose file has this status."""
    return info.st_dev, info.st_ino


def identify(file: int | str) -> Identity | None:
    """Return the identity of a namespace; ``None`` if it cannot be read.

    :param file: a descriptor or a path.
    """
    try:
        return identity_of(os.stat(file))
    except OSError:
        return None


def current() -> Identity | None:
    """Return the identity of the calling thread's namespace; ``None`` without a /proc."""
    return identify(_HERE)


def check_shortage(error: OSError, request: str) -> None:
    """Check whether an error is a shortage.

    :raises ResourceExhausted: when it is.
    """
    if error.errno in _TEMPORARY_ERRNOS:
        raise kernel_error(error.errno, request) from error


if sys.version_info >= (3, 12):

    def setns(fd: int, kind: int) -> None:
        """Move this thread into a namespace.

        :raises OSError: when the kernel refuses it.
        """
        os.setns(fd, kind)

    def unshare(kinds: int) -> None:
        """Move this thread into new namespaces.

        :raises OSError: when the kernel refuses it.
        """
        os.unshare(kinds)

else:

    def _libc(name: str, *arguments: int) -> None:
        try:
            import ctypes

            function = getattr(ctypes.CDLL(None, use_errno=True), name)
        except (ImportError, AttributeError, MemoryError, OSError) as error:
            # Python lacks ctypes, or the C library the call, or memory may not be both writable
            # and executable.
            hint = f"Python 3.11 makes this call through ctypes, which failed: {error!r}"
            raise NamespaceError(errno.ENOSYS, f"{name}()", hint=hint) from error
        if function(*arguments):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def setns(fd: int, kind: int) -> None:
        """Move this thread into a namespace.

        :raises OSError: when the kernel refuses it.
        """
        _libc("setns", fd, kind)

    def unshare(kinds: int) -> None:
        """Move this thread into new namespaces.

        :raises OSError: when the kernel refuses it.
        """
        _libc("unshare", kinds)
