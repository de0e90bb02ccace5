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
    """Sends the requests of a subsystem with a table of its own, such as that of timeout policies.

    If the kernel was built without the subsystem, errors say so.
    """

    def __init__(
        self,
        session: Session,
        probes: Probes,
        feature: str,
        everything: Request,
        decoder: MessageDecoder[T],
    ) -> None:
        """Initialize without sending anything.

        :param session: the session of the connection.
        :param probes: find out whether the kernel has the subsystem.
        :param feature: the name of the subsystem among the probes.
        :param everything: the request that dumps the table.
        :param decoder: decodes the entries of the table.
        """
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

        The kernel answers EINVAL if it lacks the subsystem, and also if it does not accept a
        request. So after EINVAL the library probes whether the kernel has the subsystem.

        :param requests: the requests.
        :param named: the index of the request that :exc:`NotSupported` names.

        :raises NotSupported: when the kernel lacks the subsystem.
        """
        responses = await self._session.run(requests)
        refused = any(isinstance(response.error, InvalidRequest) for response in responses)
        if refused and not await self._probes.has(self._feature):
            hint = self._everything.hints[errno.EOPNOTSUPP]
            raise NotSupported(errno.EOPNOTSUPP, str(requests[named]), hint=hint)
        return responses
