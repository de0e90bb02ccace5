"""Every exception of the library, in one tree under :class:`ConntrackError`.

A closed or busy connection, dump or stream raises anyio's own
:exc:`anyio.ClosedResourceError` and :exc:`anyio.BusyResourceError`.
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
    def __init__(self, reason: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return f"{'/'.join(self.path)}: {self.reason}" if self.path else self.reason


class DecodeError(_CodecError):
    """Bytes that are not a message of this protocol, or JSON that is not an object of the model.

    ``path`` names the attribute, outermost first, in the kernel's names where they are known:
    ``("CTA_TUPLE_ORIG", "CTA_TUPLE_IP", "CTA_IP_V4_SRC")``; of JSON it is the keys, and the
    indices of lists: ``("unknown", "0", "path")``. A stream that raised it goes on with the next
    message.
    """


class EncodeError(_CodecError):
    """A value that cannot be sent: out of range, of the wrong type, or incomplete.

    ``path`` names the field: ``("orig", "sport")``. Nothing was sent.
    """


class MatchError(ConntrackError, ValueError):
    """A match that can't be: conditions that no flow can meet, or a text that is none.

    ``reason`` says what is wrong. Of a text, ``text`` is all of it, and ``column`` where in it,
    counted from 1.
    """

    def __init__(self, reason: str, text: str | None = None, column: int | None = None) -> None:
        super().__init__(reason, text, column)
        self.reason = reason
        self.text = text
        self.column = column

    def __str__(self) -> str:
        if self.text is None or self.column is None:
            return self.reason
        before = self.text[: self.column - 1]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        shown = self.text.split("\n")[line - 1]
        start = max(0, column - 60)
        where = f"line {line}, column {column}" if "\n" in self.text else f"column {column}"
        pointer = " " * (column - 1 - start) + "^"
        return f"{self.reason}, at {where}:\n  {shown[start : start + 80]}\n  {pointer}"


class UnsafeRequest(ConntrackError, ValueError):
    """Refused before anything was sent, because it would act wider than what was asked.

    The kernel takes a delete without a tuple for a flush; this library does not send one.
    """


class KernelError(ConntrackError, OSError):
    """The kernel refused a request.

    ``errno`` is its code, ``request`` what was asked (``"create 10.0.0.1:…"``), ``detail`` the
    kernel's own words from the extended acknowledgement, where it had any.
    """

    hint = ""

    def __init__(self, errno: int, request: str, detail: str | None = None, hint: str = "") -> None:
        # A code that no kernel has must not raise anything else than what it is.
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
    """ENOENT: no such entry, or one with another id."""


class AlreadyExists(KernelError):
    """EEXIST: an entry has this tuple already, in either direction."""


class PermissionDenied(KernelError):
    """EPERM, EACCES: the capability is missing, or the entry forbids the change.

    Or a seccomp profile or a security module forbids a system call; the ``hint`` says so then.
    """

    hint = (
        "This needs CAP_NET_ADMIN in the user namespace that owns the network namespace: "
        "run as root, or give the program the capability"
    )


class NotSupported(KernelError):
    """EOPNOTSUPP, EPROTONOSUPPORT, ENOPROTOOPT and their like: this kernel, or this entry, can't
    do that."""


class InvalidRequest(KernelError):
    """EINVAL, ERANGE: the kernel does not accept the request as it is."""


class ResourceBusy(KernelError):
    """EBUSY: it is in use, or it may not be changed to that."""


class ResourceExhausted(KernelError):
    """ENOMEM, ENOSPC, ENOBUFS: a table, an extension or a buffer is full; EMFILE, ENFILE: there
    are no descriptors left; EAGAIN: no thread can be started."""


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


SHORTAGES: Final = frozenset(code for code, error in _CLASSES.items() if error is ResourceExhausted)
"""The codes that say that something is used up, which may be there again in a moment."""


def kernel_error(
    errno: int, request: str, detail: str | None = None, hint: str = ""
) -> KernelError:
    """The class of :class:`KernelError` that ``errno`` has, made."""
    return _CLASSES.get(errno, KernelError)(errno, request, detail, hint)


REFUSALS = frozenset((_errno.EPERM, _errno.EACCES, _errno.ENOSYS))
"""What a system call fails with where a seccomp profile or a security module forbids it."""

_FORBIDDEN = (
    "a seccomp profile or a security module, as containers and service managers have them, "
    "forbids this system call"
)


def call_error(
    error: OSError, call: str, *, needs: str = "", cls: type[KernelError] | None = None
) -> KernelError:
    """Return the error of a system call that failed before the kernel saw a request.

    :param call: the system call, and the option where it is one of a socket's; it becomes the
        error's ``request``.
    :param needs: the capability that the call takes, in words, if it takes any: without one only a
        seccomp profile or a security module can have refused it.
    :param cls: the class of the error, unless it is the errno's.

    An error that is a :exc:`KernelError` already says what it is, and stays that.
    """
    if isinstance(error, KernelError):
        return error
    code = error.errno or _errno.EIO
    hint = ""
    if code == _errno.ENOSYS or (code in REFUSALS and not needs):
        hint = f"{_FORBIDDEN[0].upper()}{_FORBIDDEN[1:]}: allow it there"
    elif code in REFUSALS:
        hint = f"{needs}; or {_FORBIDDEN}"
    return (cls or _CLASSES.get(code, KernelError))(code, call, hint=hint)


def failed(request: str, error: OSError) -> KernelError:
    """Return the error of a request that failed by ``error``, perhaps by what :func:`call_error`
    made, whose class and hint it keeps."""
    if isinstance(error, KernelError):
        text = f"{request}: {error.request}"
        return type(error)(error.errno or _errno.EIO, text, error.detail, error.hint)
    return kernel_error(error.errno or _errno.EIO, request)


class NamespaceError(KernelError):
    """A network namespace could not be found or entered."""


class NoReply(ConntrackError):
    """The kernel's answer to a request did not come in time, or was lost.

    Whether the request was carried out is unknown.
    """


class DumpInterrupted(ConntrackError):
    """The table changed under a dump so that it is not consistent (``NLM_F_DUMP_INTR``).

    ctnetlink of Linux 4.19 to 7.1 never says so; entries may be missed or repeated all the same.
    """


class EventsLost(ConntrackError):
    """The kernel dropped events at this place of the stream, because the socket's buffer was full.

    ``lost`` is how many messages, by the socket's own counter, or ``None`` where the kernel does
    not tell or cannot tell them from the gap before, and of a reliable stream, whose counter has
    failed tries too. The stream goes on: iterate again for the events after the gap.
    """

    def __init__(self, lost: int | None) -> None:
        super().__init__(lost)
        self.lost = lost

    def __str__(self) -> str:
        count = "some events were" if self.lost is None else f"{self.lost} events were"
        if self.lost == 1:
            count = "1 event was"
        return (
            f"{count} lost here: events came faster than they were read. "
            "The stream goes on; a larger receive_buffer holds more"
        )


class UsedElsewhere(ConntrackError, RuntimeError):
    """A connection was used in another process or event loop than the one that opened it.

    The same holds for everything that came of the connection: dumps, streams, bulks and tables.
    A process that was forked, and each event loop, opens a connection of its own.
    """


class UnsupportedPlatform(ConntrackError):
    """Connection tracking is Linux's: elsewhere only the types and the codec work."""
