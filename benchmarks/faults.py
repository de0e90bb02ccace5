"""Faults that the soak causes: shortages, forks, and programs that are interrupted."""

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

# The shortages are those of the tests.
sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.resource_limits import limit_descriptors, limit_threads

SHORT_OF: Final = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
"""What a shortage is called."""

_PATIENCE: Final = 20.0
"""Seconds within which a program that is interrupted must have ended."""


class Faults:
    """Faults, one after the other, until it is cancelled."""

    def __init__(
        self, rng: random.Random, backend: str, conn: Connection, tables: Sequence[FlowTable]
    ) -> None:
        self.done: Counter[str] = Counter()
        self.complaints: list[str] = []
        self._rng = rng
        self._backend = backend
        self._conn = conn
        self._tables = tables

    @property
    def works(self) -> tuple[Callable[[], Coroutine[object, object, None]], ...]:
        """Each is to run in a task of its own."""
        return self._shortages, self._forks, self._interrupts

    # -- shortages --------------------------------------------------------------------------

    async def _shortages(self) -> None:
        while True:
            await anyio.sleep(self._rng.uniform(1, 8))
            kind, shortage = self._rng.choice(
                [("descriptors", limit_descriptors), ("threads", limit_threads)]
            )
            with shortage(self._rng.randrange(4)):
                await anyio.sleep(self._rng.random() ** 2 * 2)
            self.done[f"short of {kind}"] += 1

    # -- forks ------------------------------------------------------------------------------

    async def _forks(self) -> None:
        while True:
            await anyio.sleep(self._rng.uniform(0.5, 5))
            try:
                child = self._fork()
            except OSError as error:
                if error.errno not in SHORT_OF:
                    raise
                continue
            while True:  # without a thread: there may be none
                pid, status = os.waitpid(child, os.WNOHANG)  # noqa: ASYNC222 - it does not block
                if pid:
                    break
                await anyio.sleep(0.02)
            self.done["forks"] += 1
            if status:
                self.complaints.append(f"a forked process ended with status {status:#x}")

    def _fork(self) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 3.12 warns: there are threads
            child = os.fork()
        if child:
            return child
        # From here on in the other process, which must not get back into the event loop.
        code = 1
        try:
            signal.alarm(int(_PATIENCE))
            signal.set_wakeup_fd(-1)
            code = self._be_refused()
        finally:
            os._exit(code)

    def _be_refused(self) -> int:
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

    async def _interrupts(self) -> None:
        while True:
            await anyio.sleep(self._rng.uniform(0.2, 3))
            after = self._rng.random() * 0.5
            try:
                said = await anyio.to_thread.run_sync(_interrupted, self._backend, after)
            except (OSError, RuntimeError):
                continue  # there is a shortage just now
            self.done["interrupts"] += 1
            if said:
                self.complaints.append(f"a program that was interrupted: {said}")


def _interrupted(backend: str, after: float) -> str:
    """What a program says, or how it ends, that is interrupted; nothing, if it ends as it should.

    :param after: seconds after it has begun.
    """
    command = [sys.executable, "-m", "benchmarks.faults", backend]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as program:
        assert program.stdout is not None
        program.stdout.readline()
        threading.Event().wait(after)
        program.send_signal(signal.SIGINT)
        try:
            _, said = program.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            program.kill()
            return "it hangs"
    if program.returncode != -signal.SIGINT or said:
        return f"status {program.returncode}, {said[-2000:]}"
    return ""


async def _program() -> list[str]:
    """What is interrupted: it has a table, a stream and a dump, and never ends."""
    from conntrack_aio import connect

    print("begun", flush=True)
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
