"""How much the tests do: enough to trust a change within minutes, or everything on request."""

from __future__ import annotations

import os
from typing import Final, TypeVar

T = TypeVar("T")

THOROUGH: Final = bool(os.environ.get("CONNTRACK_AIO_TEST_THOROUGH"))
"""Whether to run every case, on every event loop. ``.ci/run`` does so once."""

GUEST: Final = os.environ.get("CONNTRACK_AIO_TEST_GUEST")
"""The name of the virtual machine that runs the tests, which ``tests/kernels`` sets, or ``None``.

A guest is slow.
"""

QUICK: Final = not THOROUGH
"""Whether to run a selection of the cases, with fewer examples and smaller storms."""

GUEST_STRIDE: Final = 7 if GUEST else 1
"""The stride through a long series of similar steps."""

TIMEOUT_FACTOR: Final = 10 if GUEST else 1
"""The factor by which all time limits of the tests are longer."""

EXAMPLES_FACTOR: Final = int(os.environ.get("CONNTRACK_AIO_TEST_TIMES", "1"))
"""The factor by which Hypothesis tries more examples, and by which more random command lines are
compared with other programs. ``--hypothesis-seed`` repeats the examples."""


def examples(count: int) -> int:
    """Return how many examples Hypothesis is to try.

    :param count: the number for a thorough run; a quick run tries a fifth, a guest a twentieth.
    """
    if GUEST:
        return max(count // 20, 3)
    return (max(count // 5, 5) if QUICK else count) * EXAMPLES_FACTOR


def thorough_or_quick(thorough: T, quick: T) -> T:
    """Return the first value in a thorough run, and the second in a quick one."""
    return quick if QUICK else thorough


def stride(thorough: int, quick: int) -> int:
    """Return the stride through the steps of a test; 1 if CONNTRACK_AIO_TEST_TIMES is set."""
    return 1 if EXAMPLES_FACTOR > 1 else thorough_or_quick(thorough, quick)
