"""Whether there is a trace: the environment says so, or the level of a logger."""

from __future__ import annotations

import logging
import os
import threading
from typing import Final

from ..netlink.raw import Observer, RawSocket, observe

VARIABLE: Final = "CONNTRACK_AIO_DEBUG"
LOGGER: Final = "conntrack_aio.trace"

_logger = logging.getLogger(LOGGER)
_lock = threading.Lock()
_handler: logging.Handler | None = None


def arm() -> None:
    """Have each new socket look whether somebody wants to see what passes through it.

    That is so where the variable :data:`VARIABLE` is set to anything but ``0`` (the messages then
    go to standard error), or where the level of the logger :data:`LOGGER` itself is DEBUG or
    lower. The level of the loggers above it doesn't count: whoever wants to hear everything of
    everybody can hardly mean this.
    """
    observe(_observer)


def _observer(raw: RawSocket) -> Observer | None:
    if os.environ.get(VARIABLE, "") not in ("", "0"):
        _show()
    if not 0 < _logger.level <= logging.DEBUG or not _logger.isEnabledFor(logging.DEBUG):
        return None
    from .tracer import Tracer

    return Tracer(raw, _logger)


def _show() -> None:
    """Have the logger write to standard error, and there alone. Once, whoever asks again."""
    global _handler
    with _lock:
        if _handler is None:
            _handler = logging.StreamHandler()
            _handler.setFormatter(
                logging.Formatter("%(asctime)s.%(msecs)03d %(message)s", "%H:%M:%S")
            )
            _logger.addHandler(_handler)
            _logger.setLevel(logging.DEBUG)
            _logger.propagate = False
