"""Describe values that were passed in, whatever they are."""

from __future__ import annotations

from ..errors import EncodeError
from ..plain import LONGEST, as_int, as_str, describe_number
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


def plain_number(value: object, *path: str) -> int:
    """Return the plain number that a value is.

    :raises EncodeError: with this path, when the value is not an integer.
    """
    try:
        return as_int(value)
    except Exception:
        raise EncodeError(f"{describe_value(value)} is not an integer", path) from None


def number_within(value: object, most: int, *path: str) -> int:
    """Return the plain number that a value is, which is from 0 to ``most``.

    :raises EncodeError: with this path, when the value is another number, or not an integer.
    """
    number = plain_number(value, *path)
    if not 0 <= number <= most:
        raise EncodeError(f"{describe_number(number)} is not in the range from 0 to {most}", path)
    return number
