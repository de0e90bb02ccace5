"""Read and change the settings of connection tracking."""

from __future__ import annotations

import errno
import inspect
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Concatenate, Final, ParamSpec, TypeVar

from ..errors import DecodeError, KernelError, NotSupported, PermissionDenied, kernel_error
from ..model.settings import SETTINGS, ConntrackSysctls, SettableSysctls, Setting, sysctl_of
from ..proc_sys import SysctlTree
from ..session import Session
from ..tracking import is_tracking

P = ParamSpec("P")
S = TypeVar("S")
V = TypeVar("V")

_HINT_READ_ONLY: Final = (
    "/proc/sys is mounted read-only here, as it is in most containers: set it outside the container"
)
_HINT_WHOLE_MACHINE: Final = (
    "The whole machine has one. Only root can set it, in the initial network namespace; some "
    "kernels do not allow expect_max to be set at all"
)


def _takes_keywords_of(
    make: Callable[P, V],
    accepted: str,
) -> Callable[
    [Callable[[S, V], Coroutine[object, object, None]]],
    Callable[Concatenate[S, P], Coroutine[object, object, None]],
]:
    """Decorate a method to take the parameters of ``make`` instead of the object that it makes.

    So each setting is declared only once.

    :param make: makes the argument of the method.
    :param accepted: which keywords there are, for error messages.
    """

    def decorate(
        method: Callable[[S, V], Coroutine[object, object, None]],
    ) -> Callable[Concatenate[S, P], Coroutine[object, object, None]]:
        @wraps(method)
        def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[object, object, None]:
            try:
                taken.bind(*args, **kwargs)
            except TypeError as error:  # its text would name the class of the argument
                raise TypeError(f"{method.__name__}() {error}; {accepted}") from None
            return method(self, make(*args, **kwargs))

        own, _ = inspect.signature(method).parameters.values()
        taken = inspect.signature(make)
        call.__dict__["__signature__"] = taken.replace(
            parameters=[own, *taken.parameters.values()], return_annotation=None
        )
        return call

    return decorate


class Sysctls:
    """The settings of connection tracking in the connection's own namespace: ``conn.sysctls``.

    They are files below ``/proc/sys/net/netfilter``, which are read and written on a worker thread.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    async def read(self) -> ConntrackSysctls:
        """Return the settings as they are now. Those that this kernel does not have are ``None``.

        :meth:`ConntrackSysctls.blind_spots` says what the settings hide.

        :raises KernelError: when a setting cannot be read.
        :raises DecodeError: when a setting is not a number.
        """
        return await self._session.run_on_thread(
            lambda: _read_settings(self._session.socket_factory.sysctls)
        )

    @_takes_keywords_of(
        SettableSysctls, "it takes the fields of ConntrackSysctls, except for count"
    )
    async def set(self, changes: SettableSysctls) -> None:
        """Change the given settings: ``await conn.sysctls.set(acct=True, timestamp=True)``.

        The names and types are the fields of :class:`ConntrackSysctls` without ``count``. A setting
        that is not given, or is ``None``, stays as it is. They are written one after the other, in
        the order of the fields. If the kernel refuses one, those before it stay changed, and the
        ``hint`` of the error names them.

        The call itself raises, before anything is written:

        :raises TypeError: when a name is unknown, or a value has another type. Integers of any type
            are accepted, such as NumPy's; a switch takes ``True`` and ``False`` only.
        :raises ValueError: when a number is negative or above 2^64.

        Awaiting it raises:

        :raises NotSupported: when this kernel does not have one of the settings.
        :raises PermissionDenied: when the program lacks the right to change it. Outside the initial
            network namespace nobody may change ``max``, ``buckets`` and ``expect_max``.
        :raises InvalidRequest: when the kernel does not accept a number.
        """
        values = _values_of(changes)
        await self._session.run_on_thread(
            lambda: _write_settings(self._session.socket_factory.sysctls, values)
        )

    @_takes_keywords_of(
        SettableSysctls, "it takes the fields of ConntrackSysctls, except for count"
    )
    async def check(self, changes: SettableSysctls) -> None:
        """Check that the given settings could be set, and set nothing.

        It takes the parameters of :meth:`set`, and raises what :meth:`set` raises, except for
        :exc:`InvalidRequest`: only a write shows whether the kernel accepts a number.
        """
        values = _values_of(changes)
        await self._session.run_on_thread(
            lambda: _check_settings(self._session.socket_factory.sysctls, values)
        )

    async def tracking(self) -> bool | None:
        """Return whether connections are known to be tracked in this namespace.

        The kernel tracks nothing in a network namespace until a firewall rule there needs it.

        :returns: ``True`` if there is such a rule, and ``False`` if there is none. ``None`` if none
            was found but the namespace has tables of the older iptables (``iptables-legacy``),
            whose rules cannot be listed, or if the kernel cannot be asked. Open vSwitch and traffic
            control track without a rule and are not seen. An entry is the best proof that
            connections are tracked: :meth:`Connection.count`.

        The library lists the netfilter hooks (Linux 5.14 with CONFIG_NETFILTER_NETLINK_HOOK) and
        the rules of nftables, on a worker thread. The kernel may load the modules for both.

        :raises anyio.ClosedResourceError: when the connection is closed.
        """
        return await self._session.run_on_thread(
            lambda: is_tracking(self._session.socket_factory.open)
        )


def _read_settings(tree: SysctlTree) -> ConntrackSysctls:
    """Read all settings that this kernel has."""
    settings = ConntrackSysctls()
    for name, declared in SETTINGS.items():
        sysctl = sysctl_of(name)
        try:
            setattr(settings, name, declared.read(tree.read(sysctl)))
        except FileNotFoundError:
            continue
        except KernelError:
            raise  # the error already says that the module is missing
        except OSError as error:
            raise kernel_error(error.errno or errno.EIO, f"read {sysctl}") from error
        except DecodeError as error:
            raise DecodeError(error.reason, (sysctl,)) from error
    return settings


def _values_of(changes: SettableSysctls) -> dict[str, int]:
    """Return the plain values of the settings that are given.

    :raises TypeError: when a value has another type.
    :raises ValueError: when a value is out of range.
    """
    return {
        name: declared.check(name, value)
        for name, declared in SETTINGS.items()
        if (value := getattr(changes, name, None)) is not None
    }


def _check_settings(tree: SysctlTree, values: dict[str, int]) -> None:
    """Check that settings can be set."""
    for name, value in values.items():
        try:
            tree.check_writable(sysctl_of(name))
        except KernelError:
            raise  # the error already says that the module is missing
        except OSError as error:
            raise _write_error(error.errno or errno.EIO, name, value, []) from error


def _write_settings(tree: SysctlTree, values: dict[str, int]) -> None:
    """Write settings in the given order, until the kernel refuses one."""
    written: list[str] = []
    for name, value in values.items():
        try:
            tree.write(sysctl_of(name), value)
        except KernelError:
            raise  # the error already says that the module is missing
        except OSError as error:
            raise _write_error(error.errno or errno.EIO, name, value, written) from error
        written.append(name)


def _write_error(code: int, name: str, value: int, written: list[str]) -> KernelError:
    """Return the error for a setting that could not be written.

    :param code: the ``errno``.
    :param name: the name of the setting.
    :param value: the value that was to be written.
    :param written: the names of the settings that were written before.
    """
    declared = SETTINGS[name]
    request = f"set {sysctl_of(name)} to {value}"
    denied = code in (errno.EPERM, errno.EACCES)
    if code == errno.ENOENT:
        error: KernelError = NotSupported(code, request, hint=_hint_if_missing(declared))
    elif code == errno.EROFS:
        error = PermissionDenied(code, request, hint=_HINT_READ_ONLY)
    elif denied and declared.machine:
        error = PermissionDenied(code, request, hint=_HINT_WHOLE_MACHINE)
    else:
        error = kernel_error(code, request)
    if written:
        changed = f"These were changed before it, and stay so: {', '.join(written)}"
        error.hint = f"{error.hint}. {changed}" if error.hint else changed
    return error


def _hint_if_missing(declared: Setting) -> str:
    """Return the hint of the error for a setting that this kernel does not have."""
    if declared.since:
        return f"Linux has it since {declared.since}"
    if declared.until:
        return f"Linux had it until {declared.until}"
    return "This kernel does not have it, at least not in this namespace"
