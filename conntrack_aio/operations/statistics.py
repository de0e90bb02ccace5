"""Read the kernel's statistics of connection tracking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..codec.entry_count import entry_count_of
from ..codec.requests import statistics as requests
from ..errors import NoReply
from ..netlink.exchange import Reply, Request
from ..session import Session

if TYPE_CHECKING:
    from ..model.statistics import CPUStatistics, TableStatistics


class StatisticsReader:
    """Reads the kernel's statistics: :class:`Connection` documents what its methods return."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def count(self) -> int:
        """Return the number of entries. No class of the model is imported."""
        request = requests.table_statistics()
        entries = entry_count_of(await self._read(request))
        if entries is None:
            raise NoReply(f"{request}: the kernel's reply has no count")
        return entries

    async def of_table(self) -> TableStatistics:
        """Return the statistics of the table."""
        from ..codec.statistics_messages import table_statistics_of

        return table_statistics_of(
            await self._read(requests.table_statistics("read", "the statistics"))
        )

    async def of_cpus(self) -> list[CPUStatistics]:
        """Return the statistics of each processor."""
        from ..codec.statistics_messages import decode_cpu_statistics

        async with self._session.dump(requests.cpu_statistics(), decode_cpu_statistics) as dump:
            return [statistics async for statistics in dump]

    async def _read(self, request: Request) -> Reply:
        replies = (await self._session.ask(request)).result()
        if not replies:
            raise NoReply(f"{request}: the kernel's reply is empty")
        return replies[0]
