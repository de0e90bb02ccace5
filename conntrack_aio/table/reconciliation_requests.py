"""Number the requests for reconciliations of a live table, to know which of them are done.

A reconciliation must begin after its request. The request is done when the number of the last
completed reconciliation has reached its own number.
"""

from __future__ import annotations

from .waiters import Waiters


class ReconciliationRequests:
    """The numbers of requested and of completed reconciliations. The first is always requested."""

    def __init__(self, waiters: Waiters) -> None:
        """Initialize with the request for the first reconciliation.

        :param waiters: the tasks to wake at each request.
        """
        self._waiters = waiters
        self.requested = 1
        """The number of the last requested reconciliation."""
        self.completed = 0
        """The number of the last completed reconciliation."""
        self.requested_by_loss = 0
        """The number of the reconciliation that the last loss of events requested."""

    @property
    def pending(self) -> bool:
        """Whether a requested reconciliation is not completed."""
        return self.requested > self.completed

    @property
    def loss_pending(self) -> bool:
        """Whether a reconciliation that a loss of events requested is not completed."""
        return self.requested_by_loss > self.completed

    def request(self) -> int:
        """Request a reconciliation that begins after this call, and return its number."""
        self.requested += 1
        self._waiters.wake()
        return self.requested

    def request_by_loss(self) -> None:
        """Request a reconciliation, because events were lost."""
        self.requested_by_loss = self.request()
