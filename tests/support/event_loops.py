"""The event loops that the tests run on, and those that are installed."""

from __future__ import annotations

import asyncio
import importlib.util

BACKENDS = ("asyncio", "uvloop", "trio")

INSTALLED_BACKENDS = tuple(name for name in BACKENDS if importlib.util.find_spec(name))
"""The event loops that are installed. uvloop does not support every architecture."""


def new_asyncio_loop(backend: str) -> asyncio.AbstractEventLoop:
    """Return a new event loop of asyncio or of uvloop."""
    if backend != "uvloop":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()
