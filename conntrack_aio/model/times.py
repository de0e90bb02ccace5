"""Times as the kernel counts them: nanoseconds since 1970, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def as_datetime(nanoseconds: int | None) -> datetime | None:
    """Return nanoseconds since 1970 as an aware datetime, rounded down to the microsecond.

    :returns: ``None`` for ``None`` and for a time after the year 9999.
    """
    if nanoseconds is None:
        return None
    try:
        # Not fromtimestamp(): a time_t of 32 bits ends in 2038.
        return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return None
