"""Count and log failed reconciliations, and decide when to retry."""

from __future__ import annotations

import errno
import logging
from typing import Final

from ..errors import EXHAUSTION_ERRNOS, ConntrackError, KernelError
from ..model.table import FlowTableStatistics

logger = logging.getLogger("conntrack_aio")

MAX_ATTEMPTS: Final = 5
"""Failed attempts in a row after which callers that wait for a reconciliation get an error. If the
last of them read the table incompletely, its result is used all the same."""

_RETRY_DELAY: Final = 0.1
"""Seconds before the first retry. Each further retry waits twice as long."""

_MAX_RETRY_DELAY: Final = 2.0
"""Seconds between two attempts, at most."""


def is_temporary(error: ConntrackError) -> bool:
    """Return whether a retry may succeed: after a shortage, or a damaged or missing reply."""
    if isinstance(error, KernelError):
        return error.errno in EXHAUSTION_ERRNOS or error.errno == errno.EBADMSG
    return True


class ReconciliationFailures:
    """The failures to reconcile since the last success."""

    def __init__(self, statistics: FlowTableStatistics) -> None:
        """Initialize without failures.

        :param statistics: where failures are counted.
        """
        self._statistics = statistics
        self.in_a_row = 0
        """Attempts that failed since the last successful one."""
        self.last_error: ConntrackError | None = None
        """Why the last attempt failed; ``None`` if it did not fail."""

    @property
    def next_is_last(self) -> bool:
        """Whether the next attempt is the last before waiting callers get an error."""
        return self.in_a_row >= MAX_ATTEMPTS - 1

    @property
    def too_many(self) -> bool:
        """Whether so many attempts in a row have failed that waiting callers get an error."""
        return self.in_a_row >= MAX_ATTEMPTS

    @property
    def retry_delay(self) -> float:
        """Seconds to wait before the next attempt, after a failed one."""
        doublings = min(self.in_a_row - 1, 10)
        return min(_RETRY_DELAY * 2.0**doublings, _MAX_RETRY_DELAY)

    def record(self, error: ConntrackError | None) -> None:
        """Record the outcome of an attempt to reconcile.

        :param error: why it failed; ``None`` if it succeeded.
        """
        if error is None:
            if self.in_a_row:
                logger.info(
                    "live table: reconciled with the kernel's table after %d failed attempts",
                    self.in_a_row,
                )
            self.in_a_row = 0
        else:
            if not self.in_a_row:
                logger.warning(
                    "live table: the reconciliation with the kernel's table failed, will retry: %s",
                    error,
                )
            self.in_a_row += 1
            self._statistics.failures += 1
        self.last_error = error
        self._statistics.last_error = None if error is None else str(error)

    def clear_error(self) -> None:
        """Drop the last error."""
        self.last_error = self._statistics.last_error = None
