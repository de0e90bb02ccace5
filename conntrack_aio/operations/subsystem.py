"""The base of the operations of a subsystem that a kernel may have been built without."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from ..errors import InvalidRequest, NotSupported
from ..netlink.exchange import Request, Response
from ..session import Session
from ..streams.dump import Dump
from ..streams.iterators import MessageDecoder
from .probes import Probes

T = TypeVar("T")


class Subsystem(Generic[T]):
    """A subsystem with a table of its own, which reports clearly if the kernel lacks it."""

    def __init__(
        self,
        session: Session,
        probes: Probes,
        feature: str,
        everything: Request,
        decoder: MessageDecoder[T],
    ) -> None:
        self._session = session
        self._probes = probes
        self._feature = feature
        self._everything = everything
        self._decoder = decoder

    def _dump(self, predicate: Callable[[T], bool] | None = None) -> Dump[T]:
        return self._session.dump(self._everything, self._decoder, predicate)

    async def _list(self, predicate: Callable[[T], bool] | None = None) -> list[T]:
        async with self._dump(predicate) as dump:
            return [each async for each in dump]

    async def _run(self, requests: Sequence[Request], named: int = 0) -> list[Response]:
        """Send requests in order, and return a response to each.

        The kernel answers EINVAL for a subsystem that it lacks, and also for a request that it does
        not accept. So the library asks whether it has the subsystem.

        :param named: the index of the request that the error names.

        :raises NotSupported: when the kernel lacks the subsystem.
        """
        responses = await self._session.run(requests)
        refused = any(isinstance(response.error, InvalidRequest) for response in responses)
        if refused and not await self._probes.has(self._feature):
            hint = self._everything.hints[errno.EOPNOTSUPP]
            raise NotSupported(errno.EOPNOTSUPP, str(requests[named]), hint=hint)
        return responses
