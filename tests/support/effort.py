"""How hard the tests try: as a rule all that they can, and less where they have done so before."""

from __future__ import annotations

import os
from typing import Final, TypeVar

T = TypeVar("T")

SHORT: Final = bool(os.environ.get("CONNTRACK_AIO_TEST_SHORT"))
"""Set by ``.ci/run`` for all runs but that of the README's command."""

GUEST: Final = os.environ.get("CONNTRACK_AIO_TEST_GUEST")
"""The name of the guest that this is, as ``tests/kernels`` sets it: a slow machine."""

SPARSE: Final = 7 if GUEST else 1
"""Of many steps that are alike, every which."""

PATIENCE: Final = 10 if GUEST else 1
"""How many times as long a test waits for what ought to come at once."""

TIMES: Final = int(os.environ.get("CONNTRACK_AIO_TEST_TIMES", "1"))
"""To be set by hand, for so many times as many examples; with ``--hypothesis-seed`` they are the
same again."""


def examples(count: int) -> int:
    """So many examples of Hypothesis, or, in a short run, a fifth, and in a guest a twentieth."""
    if GUEST:
        return max(count // 20, 3)
    return max(count // 5, 5) if SHORT else count * TIMES


def of(much: T, little: T) -> T:
    """The first, or, in a short run, the second."""
    return little if SHORT else much


def stride(much: int, little: int) -> int:
    """Of the steps that a test walks, every which: all of them where more is asked for by hand."""
    return 1 if TIMES > 1 else of(much, little)
