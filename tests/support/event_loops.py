"""The event loops that the tests know, and those that are installed."""

from __future__ import annotations

import asyncio
import importlib.util

BACKENDS = ("asyncio", "uvloop", "trio")

INSTALLED_BACKENDS = tuple(name for name in BACKENDS if importlib.util.find_spec(name))
"""uvloop is no package of every architecture."""


def new_asyncio_loop(backend: str) -> asyncio.AbstractEventLoop:
    """A loop of asyncio's or of uvloop's."""
    if backend != "uvloop":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()
