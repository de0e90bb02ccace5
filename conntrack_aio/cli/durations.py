"""Read durations from the command line, within what the kernel can keep.

The kernel multiplies the timeout of an entry by its ticks per second and keeps at most 2^31 - 1
ticks (``__nf_ct_change_timeout``). It has 100 to 1000 ticks per second, and reports neither that
number nor a timeout that it has shortened.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

from ..quantities import parse_duration

_MOST_TICKS: Final = (1 << 31) - 1
EVERY_KERNEL_KEEPS: Final = _MOST_TICKS // 1000
"""The longest timeout that every kernel keeps, in seconds."""
ENTRY_MOST: Final = _MOST_TICKS // 100
"""The longest timeout of an entry that some kernel keeps, in seconds."""
EXPECTATION_MOST: Final = 0xFFFFFFFF // 1000
"""The longest timeout of an expectation that every kernel counts, in seconds."""

FORMS: Final = "a number of seconds such as 600, or 90s, 10m, 1h30m or 2d"
"""How a duration is written, for help texts."""
ENTRY_RANGE: Final = (
    f"at most {EVERY_KERNEL_KEEPS}, and up to {ENTRY_MOST} where the kernel has fewer than 1000 "
    "ticks per second"
)
"""Which timeouts entries can have, for help texts."""


def duration(least: int, most: int, *, because: str = "") -> Callable[[str], int]:
    """Return the function that reads a duration of ``least`` to ``most`` seconds.

    :param because: why a shorter one is refused, for the error message.
    """

    def parse(value: str) -> int:
        try:
            seconds = parse_duration(value)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"invalid number of seconds {value[:40]!r}; expected {FORMS}"
            ) from None
        if seconds < least and because:
            raise argparse.ArgumentTypeError(f"{value!r} is too short: {because}")
        if not least <= seconds <= most:
            raise argparse.ArgumentTypeError(
                f"{value!r} is not in the range from {least} to {most} seconds"
            )
        return seconds

    return parse


parse_entry_timeout: Final = duration(0, ENTRY_MOST)
parse_new_timeout: Final = duration(1, ENTRY_MOST, because="the entry would end at once")
parse_expectation_timeout: Final = duration(0, EXPECTATION_MOST)
parse_policy_timeout: Final = duration(0, EVERY_KERNEL_KEEPS)


def shortened(wanted: int | None, kept: int | None) -> str:
    """Return the report that the kernel has shortened a timeout; empty if it has not.

    :param wanted: the timeout that was sent, in seconds.
    :param kept: the timeout of the entry just afterwards.
    """
    # The time between the two readings shortens it, too, so a few seconds mean nothing.
    if wanted is None or kept is None or wanted <= EVERY_KERNEL_KEEPS or kept > wanted - 60:
        return ""
    return f"the kernel keeps no longer timeout than {kept} seconds, instead of {wanted}"
