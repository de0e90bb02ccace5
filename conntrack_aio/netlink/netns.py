"""Name a network namespace: by its name, path, process or descriptor."""

from __future__ import annotations

import errno
import os

import attrs

from ..errors import NamespaceError, call_error, request_error
from ..plain import as_int, as_str, describe_value
from . import namespaces
from .namespaces import check_shortage


@attrs.frozen(init=False, repr=False)
class NetNS:
    """A network namespace by its name, path, process or descriptor. It is opened only when used."""

    _path: str | None
    _fd: int | None
    _label: str

    def __init__(self, value: str | os.PathLike[str] | NetNS) -> None:
        """Initialize a namespace as ``netns=`` does: from a name, a path or a :class:`NetNS`.

        Text with a slash is a path; other text is a name.

        :raises TypeError: when the value is of another type.
        :raises ValueError: when it cannot name a namespace.
        """
        if isinstance(value, NetNS):
            other = value
        elif issubclass(type(value), str) and "/" not in (name := as_str(value)):
            other = NetNS.from_name(name)
        elif isinstance(value, (str, os.PathLike)):  # pyright: ignore[reportUnnecessaryIsInstance]
            other = NetNS.from_path(value)
        else:
            raise TypeError(
                f"netns must be a name, a path or a NetNS; got {describe_value(value)}. A number "
                "is ambiguous: use NetNS.from_pid() or NetNS.from_fd()"
            )
        self._initialize(other._path, other._fd, other._label)

    @classmethod
    def _of(cls, path: str | None, fd: int | None, label: str) -> NetNS:
        netns = cls.__new__(cls)
        netns._initialize(path, fd, label)
        return netns

    def _initialize(self, path: str | None, fd: int | None, label: str) -> None:
        object.__setattr__(self, "_path", path)
        object.__setattr__(self, "_fd", fd)
        object.__setattr__(self, "_label", label)

    @classmethod
    def from_name(cls, name: str) -> NetNS:
        """Return a namespace that ``ip netns add`` made.

        :raises TypeError: when the name is not text.
        :raises ValueError: when it cannot be the name of a namespace.
        """
        try:
            name = as_str(name)
        except TypeError:
            shown = describe_value(name)
            raise TypeError(f"the name of a network namespace must be text; got {shown}") from None
        if not name or "/" in name or name in {".", ".."}:
            raise ValueError(f"{describe_value(name)} is not the name of a network namespace")
        return cls._of(f"{namespaces.NAMES_DIRECTORY}/{name}", None, f"namespace {name!r}")

    @classmethod
    def from_path(cls, path: str | os.PathLike[str]) -> NetNS:
        """Return a namespace by its file: ``/proc/PID/ns/net``, or where it is mounted.

        :raises TypeError: when it is not a path.
        """
        path = os.fspath(path)
        if issubclass(type(path), str):  # pyright: ignore[reportUnnecessaryIsInstance] - or bytes
            path = as_str(path)
        return cls._of(path, None, f"namespace at {describe_value(path)}")

    @classmethod
    def from_pid(cls, pid: int) -> NetNS:
        """Return the namespace in which a process is when the namespace is used.

        :raises TypeError: when the id is not an integer.
        :raises ValueError: when it has more than 31 bits, so that no process has it.
        """
        try:
            pid = as_int(pid)
        except TypeError:
            shown = describe_value(pid)
            raise TypeError(f"the id of a process must be a number; got {shown}") from None
        if pid.bit_length() > 31:
            raise ValueError(f"the id of a process has at most 31 bits; got {describe_value(pid)}")
        return cls._of(f"/proc/{pid:d}/ns/net", None, f"namespace of process {pid}")

    @classmethod
    def from_fd(cls, fd: int) -> NetNS:
        """Return a namespace by a descriptor.

        The caller owns the descriptor and must keep it open until the namespace was used.

        :raises TypeError: when the descriptor is not an integer.
        """
        try:
            fd = as_int(fd)
        except TypeError:
            raise TypeError(f"a descriptor must be an integer; got {describe_value(fd)}") from None
        return cls._of(None, fd, f"namespace at descriptor {describe_value(fd)}")

    def __str__(self) -> str:
        return self._label

    def __repr__(self) -> str:
        return f"<NetNS: {self._label}>"

    def open(self) -> int:
        """Open the namespace and return a new descriptor.

        :raises NamespaceError: when it does not exist or may not be opened.
        :raises ResourceExhausted: when there are no more descriptors.
        """
        try:
            if self._fd is not None:
                return os.dup(self._fd)
            assert self._path is not None
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            check_shortage(error, f"open the {self}")
            refusal = call_error(
                error, "dup()" if self._path is None else "open()", cls=NamespaceError
            )
            refusal.hint = {
                errno.ENOENT: "There is no such namespace",
                errno.EACCES: "This program may not open it: another user's process needs "
                "CAP_SYS_PTRACE",
            }.get(error.errno or 0, refusal.hint)
            raise request_error(f"open the {self}", refusal) from error
        except OverflowError as error:
            raise NamespaceError(errno.EBADF, f"open the {self}") from error
