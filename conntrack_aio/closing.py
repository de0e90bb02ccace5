"""The base of what an ``async with`` block closes."""

from __future__ import annotations

from abc import abstractmethod
from types import TracebackType

from anyio.abc import AsyncResource


class Closable(AsyncResource):
    """An object that its ``async with`` block closes, also when nothing can be awaited any more."""

    @abstractmethod
    def close(self) -> None:
        """Close the object without waiting. Call it in the event loop's thread."""

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        # A coroutine that is closed, perhaps because its event loop broke down, may not await. It
        # would raise RuntimeError in a running event loop, and anyio's NoEventLoopError elsewhere.
        if exc_type is GeneratorExit:
            self.close()
        else:
            await self.aclose()
