"""Cause the faults of the soak test: shortages, forks, and interrupted programs."""

from __future__ import annotations

import errno
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from conntrack_aio import Connection, FlowTable, UsedElsewhere

from .contenders.ours import on_backend

# The tests have the functions that cause shortages.
sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.resource_limits import limit_descriptors, limit_threads

SHORT_OF: Final = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
"""The error numbers of system calls that fail for lack of a resource."""

_PATIENCE: Final = 20.0
"""Seconds within which an interrupted program and a forked process must end."""


class Faults:
    """Causes faults one after the other until it is cancelled."""

    def __init__(
        self, rng: random.Random, backend: str, conn: Connection, tables: Sequence[FlowTable]
    ) -> None:
        self.done: Counter[str] = Counter()
        """How often each fault was caused."""
        self.problems: list[str] = []
        """What went wrong after a fault."""
        self._rng = rng
        self._backend = backend
        self._conn = conn
        self._tables = tables

    @property
    def activities(self) -> tuple[Callable[[], Coroutine[object, object, None]], ...]:
        """The functions to run, each in a task of its own."""
        return self._cause_shortages, self._fork_processes, self._interrupt_programs

    # -- shortages --------------------------------------------------------------------------

    async def _cause_shortages(self) -> None:
        while True:
            await anyio.sleep(self._rng.uniform(1, 8))
            kind, shortage = self._rng.choice(
                [("descriptors", limit_descriptors), ("threads", limit_threads)]
            )
            with shortage(self._rng.randrange(4)):
                await anyio.sleep(self._rng.random() ** 2 * 2)
            self.done[f"short of {kind}"] += 1

    # -- forks ------------------------------------------------------------------------------

    async def _fork_processes(self) -> None:
        while True:
            await anyio.sleep(self._rng.uniform(0.5, 5))
            try:
                child = self._fork()
            except OSError as error:
                if error.errno not in SHORT_OF:
                    raise
                continue
            while True:  # not in a thread: the process may be out of threads
                pid, status = os.waitpid(child, os.WNOHANG)  # noqa: ASYNC222 - WNOHANG
                if pid:
                    break
                await anyio.sleep(0.02)
            self.done["forks"] += 1
            if status:
                self.problems.append(f"a forked process ended with status {status:#x}")

    def _fork(self) -> int:
        """Fork a process that uses the connection, and return its process id."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 3.12 warns when there are threads
            child = os.fork()
        if child:
            return child
        # This is the forked process. It must not return into the event loop.
        code = 1
        try:
            signal.alarm(int(_PATIENCE))
            signal.set_wakeup_fd(-1)
            code = self._check_refusals()
        finally:
            os._exit(code)

    def _check_refusals(self) -> int:
        """Return the exit status of the forked process: 0 if every call raises UsedElsewhere."""
        refused = 0
        calls: list[Callable[[], object]] = [
            self._conn.dump,
            self._conn.events,
            self._conn.client_statistics,
            *[partial(len, table) for table in self._tables],
        ]
        for call in calls:
            try:
                call()
            except UsedElsewhere:
                refused += 1
        for table in self._tables:
            table.close()
        self._conn.close()
        gc.collect()
        return int(refused != len(calls))

    # -- interrupts -------------------------------------------------------------------------

    async def _interrupt_programs(self) -> None:
        while True:
            await anyio.sleep(self._rng.uniform(0.2, 3))
            after = self._rng.random() * 0.5
            try:
                problem = await anyio.to_thread.run_sync(_interrupt_program, self._backend, after)
            except (OSError, RuntimeError):
                continue  # there is a shortage at the moment
            self.done["interrupts"] += 1
            if problem:
                self.problems.append(f"an interrupted program: {problem}")


def _interrupt_program(backend: str, after: float) -> str:
    """Start this module as a program, interrupt it, and describe what went wrong.

    :param backend: the event loop of the program.
    :param after: seconds from its first line of output to the interrupt.
    :returns: a description of the problem; an empty string if there is none.
    """
    command = [sys.executable, "-m", "benchmarks.faults", backend]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as program:
        assert program.stdout is not None
        program.stdout.readline()
        threading.Event().wait(after)
        program.send_signal(signal.SIGINT)
        try:
            _, errors = program.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            program.kill()
            return f"it did not end within {_PATIENCE:.0f} seconds"
    if program.returncode != -signal.SIGINT or errors:
        # The first error is the reason of the others.
        shown = errors if len(errors) <= 6000 else f"{errors[:4000]}…{errors[-2000:]}"
        return f"status {program.returncode}, {shown}"
    return ""


async def _program() -> list[str]:
    """Use a table, a stream and dumps until interrupted."""
    from conntrack_aio import connect

    print("started", flush=True)
    while True:
        async with (
            connect() as conn,
            conn.events() as stream,
            conn.table() as table,
            table.changes() as changes,
        ):
            for _ in range(20):
                await changes.receive_batch()
                await conn.list()
                stream.statistics()
            await table.reconcile()


if __name__ == "__main__":
    try:
        on_backend(_program, sys.argv[1])
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
