"""Define every exception of the library, as subclasses of :class:`ConntrackError`.

- A closed connection, dump or stream raises :exc:`anyio.ClosedResourceError`.
- A dump or stream that another task iterates over raises :exc:`anyio.BusyResourceError`.
"""

from __future__ import annotations

import errno as _errno
import os
from typing import Final

__all__ = [
    "AlreadyExists",
    "ConntrackError",
    "DecodeError",
    "DumpInterrupted",
    "EncodeError",
    "EventsLost",
    "InvalidRequest",
    "KernelError",
    "MatchError",
    "NamespaceError",
    "NoReply",
    "NotFound",
    "NotSupported",
    "PermissionDenied",
    "ResourceBusy",
    "ResourceExhausted",
    "UnsafeRequest",
    "UnsupportedPlatform",
    "UsedElsewhere",
]


class ConntrackError(Exception):
    """The base of every error that this library defines."""


class _CodecError(ConntrackError, ValueError):
    """The base of errors about one value, with the path to the value."""

    reason: str
    """What is wrong with the value."""
    path: tuple[str, ...]
    """The names that lead to the value, outermost first; empty for the whole."""

    def __init__(self, reason: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return f"{'/'.join(self.path)}: {self.reason}" if self.path else self.reason


class DecodeError(_CodecError):
    """A message, or a JSON object, cannot be decoded.

    For a message, :attr:`path` has the kernel's attribute names, as far as they are known:
    ``("CTA_TUPLE_ORIG", "CTA_TUPLE_IP", "CTA_IP_V4_SRC")``. For JSON it has keys and list indices:
    ``("unknown", "0", "path")``. A stream that raised it continues with the next message.
    """


class EncodeError(_CodecError):
    """A value cannot be sent: it is out of range, of the wrong type, or incomplete.

    :attr:`path` names the field: ``("orig", "sport")``. Nothing was sent.
    """


class MatchError(ConntrackError, ValueError):
    """A match is not valid: no flow can meet its conditions, or its text cannot be parsed.

    The text of the error shows the place in the text of the match.
    """

    reason: str
    """What is wrong with the match."""
    text: str | None
    """The complete text of the match; ``None`` if it was not given as text."""
    column: int | None
    """The position of the mistake in the text, in characters from 1."""

    def __init__(self, reason: str, text: str | None = None, column: int | None = None) -> None:
        super().__init__(reason, text, column)
        self.reason = reason
        self.text = text
        self.column = column

    def __str__(self) -> str:
        if self.text is None or self.column is None:
            return self.reason
        return point_at(self.reason, self.text, self.column)


def point_at(reason: str, text: str, column: int) -> str:
    """Return an error message that shows the place of the mistake in a text.

    :param reason: what is wrong.
    :param text: the text.
    :param column: the position of the mistake, in characters from 1.
    """
    before = text[: column - 1]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    shown = text.split("\n")[line - 1]
    start = max(0, column - 60)
    where = f"line {line}, column {column}" if "\n" in text else f"column {column}"
    pointer = " " * (column - 1 - start) + "^"
    return f"{reason}, at {where}:\n  {shown[start : start + 80]}\n  {pointer}"


class UnsafeRequest(ConntrackError, ValueError):
    """The library refused a request that would affect more entries than the caller named.

    Nothing was sent. For example, the kernel treats a delete without a tuple as a flush.
    """


class KernelError(ConntrackError, OSError):
    """The kernel refused a request.

    It is an :exc:`OSError`, whose ``errno`` is the kernel's error code. The class says what kind of
    refusal it is.
    """

    request: str
    """The request, such as ``"create tcp 10.0.0.1:1024 -> 10.0.0.2:80"``."""
    detail: str | None
    """The text of the extended acknowledgement; ``None`` if the kernel sent none."""
    hint: str = ""
    """What to do about the error; empty if there is nothing to say."""

    def __init__(self, errno: int, request: str, detail: str | None = None, hint: str = "") -> None:
        # os.strerror() raises OverflowError for a code beyond a C int. A peer can send any code.
        super().__init__(errno, os.strerror(errno) if 0 <= errno < 4096 else "unknown error")
        self.request = request
        self.detail = detail
        self.hint = hint or type(self).hint

    def __str__(self) -> str:
        name = _errno.errorcode.get(self.errno or 0, str(self.errno))
        kernel = f"{self.detail} ({name})" if self.detail else f"{self.strerror} ({name})"
        text = f"{self.request}: {kernel}"
        return f"{text}. {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[type[KernelError], tuple[int, str, str | None, str]]:
        return type(self), (self.errno or 0, self.request, self.detail, self.hint)


class NotFound(KernelError):
    """ENOENT: the entry does not exist, or the entry with this tuple has another id.

    It is also raised when a timeout policy, a user-space helper, or the helper that a flow names
    does not exist.
    """


class AlreadyExists(KernelError):
    """EEXIST: there is such an object already.

    For a flow: another entry has its tuple in either direction. An expectation, a timeout policy or
    a user-space helper with the same key exists, too.
    """


class PermissionDenied(KernelError):
    """EPERM, EACCES: a capability is missing, or the kernel forbids this change of the entry.

    The cause may also be a seccomp profile or a security module that forbids a system call. The
    ``hint`` then says so.
    """

    hint = (
        "This needs CAP_NET_ADMIN in the user namespace that owns the network namespace: "
        "run as root, or give the program the capability"
    )


class NotSupported(KernelError):
    """EOPNOTSUPP, EPROTONOSUPPORT, EAFNOSUPPORT, ENOPROTOOPT: the kernel cannot do this.

    Either this kernel lacks the feature, or the entry does not support it.
    """


class InvalidRequest(KernelError):
    """EINVAL, ERANGE: the kernel rejects a value of the request, or a combination of values."""


class ResourceBusy(KernelError):
    """EBUSY: the object is in use, or the kernel does not allow this change of it."""


class ResourceExhausted(KernelError):
    """ENOMEM, ENOSPC, ENOBUFS, EMFILE, ENFILE, EAGAIN: a resource is used up.

    - ENOMEM, ENOSPC, ENOBUFS: a table, an extension of an entry or a buffer is full.
    - EMFILE, ENFILE: no file descriptor is left.
    - EAGAIN: no thread can be started.
    """


_CLASSES: dict[int, type[KernelError]] = {
    _errno.ENOENT: NotFound,
    _errno.EEXIST: AlreadyExists,
    _errno.EPERM: PermissionDenied,
    _errno.EACCES: PermissionDenied,
    _errno.EOPNOTSUPP: NotSupported,
    _errno.EPROTONOSUPPORT: NotSupported,
    _errno.EAFNOSUPPORT: NotSupported,
    _errno.ENOPROTOOPT: NotSupported,
    _errno.EINVAL: InvalidRequest,
    _errno.ERANGE: InvalidRequest,
    _errno.EBUSY: ResourceBusy,
    _errno.ENOMEM: ResourceExhausted,
    _errno.ENOSPC: ResourceExhausted,
    _errno.EAGAIN: ResourceExhausted,
    _errno.EMFILE: ResourceExhausted,
    _errno.ENFILE: ResourceExhausted,
    _errno.ENOBUFS: ResourceExhausted,
}


EXHAUSTION_ERRNOS: Final = frozenset(
    code for code, error in _CLASSES.items() if error is ResourceExhausted
)
"""The codes of :exc:`ResourceExhausted`: a later attempt may succeed."""


def kernel_error(
    errno: int, request: str, detail: str | None = None, hint: str = ""
) -> KernelError:
    """Return an error of the :class:`KernelError` subclass for ``errno``."""
    return _CLASSES.get(errno, KernelError)(errno, request, detail, hint)


SECCOMP_ERRNOS = frozenset((_errno.EPERM, _errno.EACCES, _errno.ENOSYS))
"""The codes with which a seccomp profile or a security module refuses a system call."""

_FORBIDDEN = (
    "a seccomp profile or a security module, such as that of a container or a service, "
    "forbids this system call"
)


def call_error(
    error: OSError, call: str, *, needs: str = "", cls: type[KernelError] | None = None
) -> KernelError:
    """Return the error for a system call that failed before the kernel saw a request.

    :param error: the error that the system call raised. A :exc:`KernelError` is returned as it is.
    :param call: the system call, for ``setsockopt()`` with the option. It becomes the error's
        ``request``.
    :param needs: a sentence that names the capability which the call requires. If it requires none,
        only a seccomp profile or a security module can have refused it.
    :param cls: the class of the error, instead of the one for its errno.
    """
    if isinstance(error, KernelError):
        return error
    code = error.errno or _errno.EIO
    hint = ""
    if code == _errno.ENOSYS or (code in SECCOMP_ERRNOS and not needs):
        hint = f"{_FORBIDDEN[0].upper()}{_FORBIDDEN[1:]}: allow it there"
    elif code in SECCOMP_ERRNOS:
        hint = f"{needs}; or {_FORBIDDEN}"
    return (cls or _CLASSES.get(code, KernelError))(code, call, hint=hint)


def request_error(request: str, error: OSError) -> KernelError:
    """Return the error for a request that failed because of ``error``.

    A :exc:`KernelError`, such as :func:`call_error` returns, keeps its class, detail and hint.
    """
    if isinstance(error, KernelError):
        text = f"{request}: {error.request}"
        return type(error)(error.errno or _errno.EIO, text, error.detail, error.hint)
    return kernel_error(error.errno or _errno.EIO, request)


class NamespaceError(KernelError):
    """A network namespace does not exist or cannot be entered."""


class NoReply(ConntrackError):
    """The kernel's reply to a request did not arrive in time, or was lost.

    The kernel may or may not have carried out the request.
    """


class DumpInterrupted(ConntrackError):
    """The kernel marked a dump as inconsistent, because the table changed (``NLM_F_DUMP_INTR``).

    In Linux 4.19 to 7.1 ctnetlink never sets this flag, although its dumps may miss or repeat
    entries.
    """


class EventsLost(ConntrackError):
    """The kernel dropped events at this place of the stream, because the receive buffer was full.

    The stream continues: iterate again for the events after the gap.
    """

    lost: int | None
    """The number of dropped events, by the socket's drop counter.

    It is ``None`` if the kernel does not report the counter, if the loss cannot be separated from
    the previous gap, and for a reliable stream, whose counter includes failed delivery attempts."""

    def __init__(self, lost: int | None) -> None:
        super().__init__(lost)
        self.lost = lost

    def __str__(self) -> str:
        count = "some events were" if self.lost is None else f"{self.lost} events were"
        if self.lost == 1:
            count = "1 event was"
        return (
            f"{count} lost here: the receive buffer was full. "
            "The stream continues; a larger receive_buffer holds more events"
        )


class UsedElsewhere(ConntrackError, RuntimeError):
    """A connection was used in another process or event loop than the one that opened it.

    The same applies to the dumps, event streams, bulk operations and tables of the connection.
    Open a separate connection in each forked process and in each event loop.
    """


class UnsupportedPlatform(ConntrackError):
    """The system is not Linux: only the types and the codec of this library work there."""
