"""Processes and network namespaces of one's own, so that one figure does not weigh on another."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TypeVar, cast

from conntrack_aio.netlink.namespaces import unshare
from conntrack_aio.proc_sys import Files, read_number, set_sysctl
from conntrack_aio.sandbox.links import set_up
from conntrack_aio.sandbox.namespace import enter_sandbox
from conntrack_aio.uapi.sched import CLONE_NEWNET

T = TypeVar("T")

_MAX = "net.netfilter.nf_conntrack_max"
_processes = multiprocessing.get_context("spawn")


class Died(Exception):
    """A process that was to measure something ended without a word."""


def apart(function: Callable[..., T], *arguments: object) -> T:
    """Call a function of a module in a fresh process; what it returns, or raises.

    The process is in this one's network namespace, and ends with this call.
    """
    receiver, sender = _processes.Pipe(duplex=False)
    process = _processes.Process(target=_answer, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        failure, result = cast("tuple[Exception | None, T]", receiver.recv())
    except EOFError:
        process.join()
        raise Died(f"{function.__qualname__} died with exit code {process.exitcode}") from None
    except BaseException:
        process.terminate()
        raise
    finally:
        process.join()
    if failure is not None:
        raise failure
    return result


def _answer(
    sender: Connection, function: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    end_on_signals()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it says when to end
    try:
        sender.send((None, function(*arguments)))
    except Exception as error:
        error.add_note(f"(in a process for {function.__qualname__})")
        sender.send((error, None))


def end_on_signals() -> None:
    """Have a request to end this process unwind it, so that what it changed is restored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def enter_namespace() -> None:
    """Move this process into a new network namespace; as root not into a user namespace as well.

    Only in the first one may receive buffers be as large as one likes. Raises
    :exc:`NamespaceError`.
    """
    try:
        unshare(CLONE_NEWNET)
    except PermissionError:
        enter_sandbox()
    else:
        set_up("lo")


def room() -> int:
    """How many flows a network namespace may have."""
    return read_number(Files(), _MAX) or 0


@contextmanager
def room_for(flows: int) -> Generator[None]:
    """Inside, namespaces have room for so many flows, where this process may see to that.

    The setting is the machine's, and only root in its first network namespace can change it;
    :func:`room` says what came of it.
    """
    before = room()
    try:
        if before < flows:
            try:
                set_sysctl(_MAX, flows)
            except OSError:
                pass  # not root, or not in the first namespace
        yield
    finally:
        if room() != before:
            set_sysctl(_MAX, before)
