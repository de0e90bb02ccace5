"""Record differences between the mirror and the kernel's table that no event has reported yet.

- Rules can suppress some events of an entry (nftables' ``ct event set``). No message shows that.
  It becomes visible only if a dump or a look-up finds a difference and no event reports it.
- A difference is recorded as a discrepancy first, because its event may still be queued.
- Any event about the entry removes the discrepancy.
"""

from __future__ import annotations

from typing import Final

import attrs

from .states import State
from .tuple_keys import Key

MAX_DISCREPANCIES: Final = 256
"""Discrepancies that are recorded at a time. One is enough to show that events are missing."""


@attrs.define
class Discrepancy:
    """A difference that a dump or a look-up found, and that no event has reported yet."""

    state: State
    """The entry as it is in the kernel, or as it was known last."""
    found_at: float
    """When it was found, in the seconds of :attr:`Mirror.now`."""
    event_expected: bool
    """Whether an event should have reported it, according to ``nf_conntrack_events``."""
    missing: bool = False
    """Whether the difference is that the kernel did not return the entry."""
    handed_out: bool = False
    """Whether the missing entry was handed out to be looked up."""
    confirmed: bool = False
    """Whether a look-up found that the entry does not exist. A dump alone does not show that: it
    also leaves out expired entries whose end the kernel has not reported yet
    (``ctnetlink_dump_table``). A look-up makes the kernel report it."""


class Discrepancies(dict[Key, Discrepancy]):
    """Discrepancies by the key of the entry's original tuple."""

    def record(
        self,
        key: Key,
        state: State,
        now: float,
        *,
        event_expected: bool,
        missing: bool = False,
        confirmed: bool = False,
    ) -> None:
        """Record a discrepancy, if it matters and fewer than the maximum are recorded.

        It matters if an event should have reported it, or if a look-up found the entry missing.
        """
        if (event_expected or confirmed) and len(self) < MAX_DISCREPANCIES:
            self[key] = Discrepancy(
                state, now, event_expected, missing, handed_out=confirmed, confirmed=confirmed
            )

    def take_missing(self) -> dict[Key, State]:
        """Return the missing entries that must be looked up, each only once."""
        found: dict[Key, State] = {}
        for key, discrepancy in self.items():
            if discrepancy.missing and not (discrepancy.confirmed or discrepancy.handed_out):
                discrepancy.handed_out = True
                found[key] = discrepancy.state
        return found
