"""The base of what an ``async with`` block closes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from anyio.abc import AsyncResource
else:
    # Importing anyio takes long, and a program without an event loop does not need it.
    AsyncResource = ABC


def register_with_anyio() -> None:
    """Make :class:`Closable` a subclass of :class:`anyio.abc.AsyncResource`. Idempotent."""
    from anyio.abc import AsyncResource

    AsyncResource.register(Closable)  # type: ignore[type-abstract]


class Closable(AsyncResource):
    """An object that its ``async with`` block closes, also when nothing can be awaited any more.

    It is an :class:`anyio.abc.AsyncResource`.
    """

    async def __aenter__(self) -> Self:
        return self

    @abstractmethod
    async def aclose(self) -> None:
        """Close the object."""

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
