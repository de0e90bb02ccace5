"""Write expectations as the lines of text that conntrack(8) prints."""

from __future__ import annotations

from ...model.enums import ExpectFlags
from ...model.expectations import Expectation
from .text import direction_text


def expectation_text(expectation: Expectation) -> str:
    """Return the line of an expectation, without its newline."""
    parts = [] if expectation.timeout is None else [f"{expectation.timeout:d}"]
    parts.append(f"proto={expectation.tuple.proto:d}")
    parts.append(direction_text(expectation.tuple))
    parts.append(direction_text(expectation.mask, "mask-"))
    parts.append(direction_text(expectation.master, "master-"))
    names = flag_names(expectation)
    if names:
        parts.append(",".join(names))
    if expectation.expect_class is not None:
        parts.append(f"class={expectation.expect_class:d}")
    if expectation.helper is not None:
        parts.append(f"helper={expectation.helper}")
    return " ".join(parts)


def flag_names(expectation: Expectation) -> list[str]:
    """Return the names of the flags of an expectation."""
    flags = 0 if expectation.flags is None else int(expectation.flags)
    return [str(bit.name) for bit in ExpectFlags if bit & flags]
