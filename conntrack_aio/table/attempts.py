"""Count and log failed attempts to compare the live table with the kernel's table."""

from __future__ import annotations

import errno
import logging
from typing import Final

from ..error_chains import chain_of
from ..errors import EXHAUSTION_ERRNOS, ConntrackError, KernelError
from ..model.table import FlowTableStatistics

logger = logging.getLogger("conntrack_aio")

MAX_ATTEMPTS: Final = 5
"""Attempts in a row after which callers that wait for a comparison get an error. If the last of
them read the table incompletely, its result is used all the same."""

_RETRY_DELAY: Final = 0.1
"""Seconds before the first retry. Each further retry waits twice as long."""

_MAX_RETRY_DELAY: Final = 2.0
"""Seconds between two attempts, at most."""


def is_temporary(error: ConntrackError) -> bool:
    """Return whether a retry may succeed: after a shortage, or a damaged or missing reply."""
    if isinstance(error, KernelError):
        return error.errno in EXHAUSTION_ERRNOS or error.errno == errno.EBADMSG
    return True


def without_traceback(error: ConntrackError) -> ConntrackError:
    """Remove the tracebacks of an error and of its causes, and return it.

    A traceback refers to stack frames, and these to the flows that were in use.
    """
    for part in chain_of(error):
        part.__traceback__ = None
    return error


class Attempts:
    """The attempts to compare, and why the last one failed."""

    def __init__(self, statistics: FlowTableStatistics) -> None:
        """Initialize without attempts.

        :param statistics: where failures are counted.
        """
        self._statistics = statistics
        self.failed_in_a_row = 0
        """Attempts that failed since the last successful one."""
        self.last_error: ConntrackError | None = None
        """Why the last attempt failed; ``None`` if it did not fail."""

    @property
    def is_last(self) -> bool:
        """Whether the next attempt is the last before waiting callers get an error."""
        return self.failed_in_a_row >= MAX_ATTEMPTS - 1

    @property
    def exhausted(self) -> bool:
        """Whether so many attempts in a row have failed that waiting callers get an error."""
        return self.failed_in_a_row >= MAX_ATTEMPTS

    @property
    def retry_delay(self) -> float:
        """Seconds to wait before the next attempt, after a failed one."""
        doublings = min(self.failed_in_a_row - 1, 10)
        return min(_RETRY_DELAY * 2.0**doublings, _MAX_RETRY_DELAY)

    def record(self, error: ConntrackError | None) -> None:
        """Record an attempt.

        :param error: why it failed; ``None`` if it succeeded.
        """
        if error is None:
            if self.failed_in_a_row:
                logger.info(
                    "live table: compared with the kernel's table after %d failed attempts",
                    self.failed_in_a_row,
                )
            self.failed_in_a_row = 0
        else:
            if not self.failed_in_a_row:
                logger.warning(
                    "live table: comparing with the kernel's table failed, will retry: %s", error
                )
            self.failed_in_a_row += 1
            self._statistics.failures += 1
        self.last_error = error
        self._statistics.last_error = None if error is None else str(error)

    def clear_error(self) -> None:
        """Drop the last error."""
        self.last_error = self._statistics.last_error = None
