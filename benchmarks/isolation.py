"""Run each measurement in its own process and its own network namespace.

One measurement then does not affect the memory, the caches or the table of another.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TypeVar, cast

from conntrack_aio.netlink.namespaces import unshare
from conntrack_aio.proc_sys import KernelSysctls, read_number, set_sysctl
from conntrack_aio.sandbox.links import set_up
from conntrack_aio.sandbox.namespace import enter_sandbox
from conntrack_aio.uapi.sched import CLONE_NEWNET

T = TypeVar("T")

_MAX = "net.netfilter.nf_conntrack_max"
_processes = multiprocessing.get_context("spawn")


class ProcessDied(Exception):
    """A measuring process ended without a result or an exception."""


def run_in_process(function: Callable[..., T], *arguments: object) -> T:
    """Call a function in a fresh process, and return its result or raise its exception.

    The process is in the network namespace of this one. It has ended when this call returns.

    :param function: a function at the top level of a module.
    :param arguments: its arguments, which must be picklable.

    :raises ProcessDied: when the process ends without a result.
    """
    receiver, sender = _processes.Pipe(duplex=False)
    process = _processes.Process(target=_run_and_send, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        failure, result = cast("tuple[Exception | None, T]", receiver.recv())
    except EOFError:
        process.join()
        raise ProcessDied(
            f"the process for {function.__qualname__} ended with exit code {process.exitcode} "
            "and sent no result"
        ) from None
    except BaseException:
        process.terminate()
        raise
    finally:
        process.join()
    if failure is not None:
        raise failure
    return result


def _run_and_send(
    sender: Connection, function: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    end_on_signals()
    # Ctrl-C reaches every process of the group. The parent process terminates this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        sender.send((None, function(*arguments)))
    except Exception as error:
        error.add_note(f"(in a process for {function.__qualname__})")
        sender.send((error, None))


def end_on_signals() -> None:
    """Exit by an exception on SIGINT, SIGTERM and SIGHUP, so that changed settings are restored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def enter_namespace() -> None:
    """Move this process into a new network namespace.

    A process without root privileges also enters a new user namespace. Root does not: only in the
    initial user namespace may receive buffers exceed ``net.core.rmem_max``.

    :raises NamespaceError: when no namespace can be created.
    """
    try:
        unshare(CLONE_NEWNET)
    except PermissionError:
        enter_sandbox()
    else:
        set_up("lo")


def room() -> int:
    """Return how many flows a network namespace may have."""
    return read_number(KernelSysctls(), _MAX) or 0


@contextmanager
def room_for(flows: int) -> Generator[None]:
    """Raise ``nf_conntrack_max`` to this number of flows, and restore it at the end.

    The setting applies to the whole machine. Only root in the initial network namespace can change
    it. In other processes this does nothing; call :func:`room` to get the limit in force.
    """
    before = room()
    try:
        if before < flows:
            try:
                set_sysctl(_MAX, flows)
            except OSError:
                pass  # not root, or not in the initial network namespace
        yield
    finally:
        if room() != before:
            set_sysctl(_MAX, before)
