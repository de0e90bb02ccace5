"""Switch the trace of a socket on or off, by the environment or by the level of a logger."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Final

from ..netlink.raw import Observer, RawSocket, observe

if TYPE_CHECKING:
    import logging

VARIABLE: Final = "CONNTRACK_AIO_DEBUG"
"""The environment variable that switches the trace on."""

LOGGER: Final = "conntrack_aio.trace"
"""The name of the logger that gets the trace."""

_lock = threading.Lock()
_handler: logging.Handler | None = None


def arm() -> None:
    """Check for each socket, when it is opened, whether to trace its messages.

    The trace is on in two cases:

    - The environment variable :data:`VARIABLE` is set to anything but the empty string and ``0``.
      The messages then go to standard error.
    - The level of the logger :data:`LOGGER` itself is DEBUG or lower. The levels of its parent
      loggers do not count: a program that logs everything at DEBUG rarely wants the trace.
    """
    observe(_observer_for)


def _observer_for(raw: RawSocket) -> Observer | None:
    """Return a tracer for a new socket, or ``None`` if the trace is off."""
    to_stderr = os.environ.get(VARIABLE, "") not in ("", "0")
    if not to_stderr and "logging" not in sys.modules:
        return None  # without the module, which takes long to import, no level can be set
    import logging

    logger = logging.getLogger(LOGGER)
    if to_stderr:
        _log_to_stderr(logger)
    if not 0 < logger.level <= logging.DEBUG or not logger.isEnabledFor(logging.DEBUG):
        return None
    from .tracer import Tracer

    return Tracer(raw, logger)


def _log_to_stderr(logger: logging.Logger) -> None:
    """Make the logger write to standard error and nowhere else. Idempotent."""
    import logging

    global _handler
    with _lock:
        if _handler is None:
            _handler = logging.StreamHandler()
            _handler.setFormatter(
                logging.Formatter("%(asctime)s.%(msecs)03d %(message)s", "%H:%M:%S")
            )
            logger.addHandler(_handler)
            logger.setLevel(logging.DEBUG)
            logger.propagate = False
