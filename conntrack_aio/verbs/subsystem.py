"""A part of the kernel that it may have been built without, with a table of its own."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from ..dumps import Dump
from ..errors import InvalidRequest, NotSupported
from ..netlink.exchange import Request, Response
from ..received import Reader
from ..session import Session
from .probes import Probes

T = TypeVar("T")


class Subsystem(Generic[T]):
    """What the verbs of such a part share: its table, and a clear word where it is missing."""

    def __init__(
        self,
        session: Session,
        probes: Probes,
        feature: str,
        everything: Request,
        reader: Reader[T],
    ) -> None:
        self._session = session
        self._probes = probes
        self._feature = feature
        self._everything = everything
        self._reader = reader

    def _dump(self, keep: Callable[[T], bool] | None = None) -> Dump[T]:
        return self._session.dump(self._everything, self._reader, keep)

    async def _list(self, keep: Callable[[T], bool] | None = None) -> list[T]:
        async with self._dump(keep) as dump:
            return [each async for each in dump]

    async def _run(self, requests: Sequence[Request], named: int = 0) -> list[Response]:
        """Send requests in order; an outcome for each.

        EINVAL is what the kernel says of a subsystem that it lacks, and of a request that it does
        not like. If it is the former, :exc:`NotSupported` is raised, with the words of the request
        at ``named``.
        """
        outcomes = await self._session.run(requests)
        refused = any(isinstance(outcome.error, InvalidRequest) for outcome in outcomes)
        if refused and not await self._probes.has(self._feature):
            hint = self._everything.hints[errno.EOPNOTSUPP]
            raise NotSupported(errno.EOPNOTSUPP, str(requests[named]), hint=hint)
        return outcomes
