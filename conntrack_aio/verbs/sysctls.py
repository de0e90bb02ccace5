"""The settings of connection tracking: reading and changing them."""

from __future__ import annotations

import errno
import inspect
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Concatenate, Final, ParamSpec, TypeVar

from ..errors import DecodeError, KernelError, NotSupported, PermissionDenied, kernel_error
from ..model.sysctls import SETTINGS, ConntrackSysctls, SettableSysctls, Setting, sysctl_of
from ..session import Session
from ..sysctls import SysctlTree
from ..tracking import is_tracking

P = ParamSpec("P")
S = TypeVar("S")
V = TypeVar("V")

_READ_ONLY: Final = (
    "/proc/sys is mounted read-only here, as it is in most containers: it is to be set outside"
)
_MACHINE: Final = (
    "It is one for the whole machine, and only to be set in the initial network namespace, by "
    "root; expect_max not even there by some kernels"
)


def _keywords_of(
    make: Callable[P, V],
) -> Callable[
    [Callable[[S, V], Coroutine[object, object, None]]],
    Callable[Concatenate[S, P], Coroutine[object, object, None]],
]:
    """Have a method take what makes its argument: each setting is declared in one place."""

    def decorate(
        method: Callable[[S, V], Coroutine[object, object, None]],
    ) -> Callable[Concatenate[S, P], Coroutine[object, object, None]]:
        @wraps(method)
        def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[object, object, None]:
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

    They are files below ``/proc/sys/net/netfilter``, read and written on a worker thread.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    async def read(self) -> ConntrackSysctls:
        """All of them, as they are now; ``None`` for those that this kernel does not have.

        What they hide from you say :meth:`ConntrackSysctls.blind_spots`. Raises a
        :exc:`KernelError` for one that can't be read, and :exc:`DecodeError` for one that is not a
        number.
        """
        return await self._session.aside(lambda: _read_all(self._session.socket_factory.sysctls))

    @_keywords_of(SettableSysctls)
    async def set(self, changes: SettableSysctls) -> None:
        """Set those that are named: ``await conn.sysctls.set(acct=True, timestamp=True)``.

        The names and types are the fields of :class:`ConntrackSysctls`, but for ``count``; what is
        not named, or ``None``, stays as it is. They are set one after the other, in the order of
        the fields. If one is refused, those before it stay set, and the error's ``hint`` names
        them.

        The call raises :exc:`TypeError` or :exc:`ValueError` before anything is set, for a name
        that is none, a value of another type, or one that is negative or above 2^64. An integer may
        be of any kind, such as NumPy's; a switch takes ``True`` and ``False`` alone. Setting raises
        :exc:`NotSupported` if this kernel does not have one of them; :exc:`PermissionDenied`
        without the right to (in other namespaces than the initial one nobody has it for ``max``,
        ``buckets`` and ``expect_max``); :exc:`InvalidRequest` for a number that the kernel does
        not take, and any other :exc:`KernelError`.
        """
        chosen = {
            name: declared.check(name, value)
            for name, declared in SETTINGS.items()
            if (value := getattr(changes, name, None)) is not None
        }
        await self._session.aside(lambda: _write(self._session.socket_factory.sysctls, chosen))

    async def tracking(self) -> bool | None:
        """Return whether connections are known to be tracked in this namespace.

        The kernel tracks nothing in a network namespace until a firewall rule there asks for it.
        ``True``: there is such a rule. ``False``: there is none. ``None``: none was found, but
        there are tables of the older iptables (``iptables-legacy``), whose rules can't be listed,
        or the kernel could not be asked.
        Open vSwitch and traffic control, which track without a rule, are not seen. An entry is the
        best proof that connections are tracked: :meth:`Connection.count`.

        It asks for the functions that see packets (Linux 5.14, if built with
        CONFIG_NETFILTER_NETLINK_HOOK) and for the rules of nftables, on a worker thread. The kernel
        may load the modules of both. It raises :exc:`anyio.ClosedResourceError` once the connection
        is closed.
        """
        return await self._session.aside(lambda: is_tracking(self._session.socket_factory.open))


def _read_all(tree: SysctlTree) -> ConntrackSysctls:
    settings = ConntrackSysctls()
    for name, declared in SETTINGS.items():
        sysctl = sysctl_of(name)
        try:
            setattr(settings, name, declared.read(tree.read(sysctl)))
        except FileNotFoundError:
            continue
        except KernelError:
            raise  # it says itself that the module is missing
        except OSError as error:
            raise kernel_error(error.errno or errno.EIO, f"read {sysctl}") from error
        except DecodeError as error:
            raise DecodeError(error.reason, (sysctl,)) from error
    return settings


def _write(tree: SysctlTree, chosen: dict[str, int]) -> None:
    done: list[str] = []
    for name, value in chosen.items():
        try:
            tree.write(sysctl_of(name), value)
        except KernelError:
            raise  # it says itself that the module is missing
        except OSError as error:
            raise _refused(error.errno or errno.EIO, name, value, done) from error
        done.append(name)


def _refused(code: int, name: str, value: int, done: list[str]) -> KernelError:
    declared = SETTINGS[name]
    request = f"set {sysctl_of(name)} to {value}"
    denied = code in (errno.EPERM, errno.EACCES)
    if code == errno.ENOENT:
        error: KernelError = NotSupported(code, request, hint=_absent(declared))
    elif code == errno.EROFS:
        error = PermissionDenied(code, request, hint=_READ_ONLY)
    elif denied and declared.machine:
        error = PermissionDenied(code, request, hint=_MACHINE)
    else:
        error = kernel_error(code, request)
    if done:
        told = f"Set before it, and still so: {', '.join(done)}"
        error.hint = f"{error.hint}. {told}" if error.hint else told
    return error


def _absent(declared: Setting) -> str:
    if declared.since:
        return f"Linux has it since {declared.since}"
    if declared.until:
        return f"Linux had it until {declared.until}"
    return "This kernel does not have it, at least not in this namespace"
