"""Describe values that were passed in, whatever they are."""

from __future__ import annotations

from typing import Final

from ..plain import as_int, as_str

_LONGEST: Final = 200


def describe_value(value: object) -> str:
    """Return the value as an error message shows it. Never raises.

    An object's own ``__repr__`` may raise, and Python refuses to print an integer of thousands
    of digits.
    """
    try:
        text = as_str(repr(value))
    except Exception:
        return f"an object of type {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def describe_error(error: BaseException) -> str:
    """Return an exception's message. Never raises, whatever class the exception is of."""
    try:
        text = as_str(str(error))
    except Exception:
        return f"an error of type {type(error).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def as_seconds(value: object) -> float:
    """Return the plain number of seconds, of an integer or a float.

    :raises TypeError: when the value is neither.
    """
    return float.__float__(value) if isinstance(value, float) else as_int(value)
