"""Times as the kernel counts them: nanoseconds since 1970, in UTC."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


def as_datetime(nanoseconds: int | None) -> datetime | None:
    """Return nanoseconds since 1970 as an aware datetime, rounded down to the microsecond.

    :returns: ``None`` for ``None`` and for a time after the year 9999.
    """
    if nanoseconds is None:
        return None
    from datetime import UTC, datetime, timedelta

    try:
        # Not fromtimestamp(): a time_t of 32 bits ends in 2038.
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return None
