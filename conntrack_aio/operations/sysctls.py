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

_READ_ONLY: Final = (
    "/proc/sys is mounted read-only here, as it is in most containers: set it outside the container"
)
_MACHINE: Final = (
    "The whole machine has one. Only root can set it, in the initial network namespace; some "
    "kernels do not allow expect_max to be set at all"
)


def _keywords_of(
    make: Callable[P, V],
    accepted: str,
) -> Callable[
    [Callable[[S, V], Coroutine[object, object, None]]],
    Callable[Concatenate[S, P], Coroutine[object, object, None]],
]:
    """Give a method the keywords of its argument, so that each setting is declared once.

    :param make: makes the argument of the keywords.
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

        :raises KernelError: for a setting that cannot be read.
        :raises DecodeError: for a setting that is not a number.
        """
        return await self._session.run_on_thread(
            lambda: _read_all(self._session.socket_factory.sysctls)
        )

    @_keywords_of(SettableSysctls, "it takes the fields of ConntrackSysctls, except for count")
    async def set(self, changes: SettableSysctls) -> None:
        """Change the given settings: ``await conn.sysctls.set(acct=True, timestamp=True)``.

        The names and types are the fields of :class:`ConntrackSysctls` without ``count``. A setting
        that is not given, or is ``None``, stays as it is. They are written one after the other, in
        the order of the fields. If the kernel refuses one, those before it stay changed, and the
        ``hint`` of the error names them.

        The call itself raises, before anything is written:

        :raises TypeError: for an unknown name, and for a value of another type. Integers of any
            type are accepted, such as NumPy's; a switch takes ``True`` and ``False`` only.
        :raises ValueError: for a number that is negative or above 2^64.

        Awaiting it raises:

        :raises NotSupported: when this kernel does not have one of the settings.
        :raises PermissionDenied: without the right to change it. Outside the initial network
            namespace nobody may change ``max``, ``buckets`` and ``expect_max``.
        :raises InvalidRequest: for a number that the kernel does not accept.
        """
        chosen = {
            name: declared.check(name, value)
            for name, declared in SETTINGS.items()
            if (value := getattr(changes, name, None)) is not None
        }
        await self._session.run_on_thread(
            lambda: _write(self._session.socket_factory.sysctls, chosen)
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


def _read_all(tree: SysctlTree) -> ConntrackSysctls:
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


def _write(tree: SysctlTree, chosen: dict[str, int]) -> None:
    done: list[str] = []
    for name, value in chosen.items():
        try:
            tree.write(sysctl_of(name), value)
        except KernelError:
            raise  # the error already says that the module is missing
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
        changed = f"These were changed before it, and stay so: {', '.join(done)}"
        error.hint = f"{error.hint}. {changed}" if error.hint else changed
    return error


def _absent(declared: Setting) -> str:
    if declared.since:
        return f"Linux has it since {declared.since}"
    if declared.until:
        return f"Linux had it until {declared.until}"
    return "This kernel does not have it, at least not in this namespace"
