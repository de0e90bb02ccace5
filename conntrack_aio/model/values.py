"""Describe values that were passed in, whatever they are."""

from __future__ import annotations

from ..plain import LONGEST, as_int, as_str
from ..plain import describe_value as describe_value


def describe_error(error: BaseException) -> str:
    """Return an exception's message. Never raises, whatever class the exception is of."""
    try:
        text = as_str(str(error))
    except Exception:
        return f"an error of type {type(error).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def as_seconds(value: object) -> float:
    """Return the plain number of seconds, of an integer or a float.

    :raises TypeError: when the value is neither.
    """
    return float.__float__(value) if isinstance(value, float) else as_int(value)
