"""Convert and describe values that users pass."""

from __future__ import annotations

from ..errors import EncodeError
from ..plain import LONGEST, as_int, as_str, describe_number
from ..plain import describe_value as describe_value


def describe_error(error: BaseException) -> str:
    """Return an exception's message. Never raises, whatever the class of the exception."""
    try:
        text = as_str(str(error))
    except Exception:
        return f"an error of type {type(error).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def as_seconds(value: object) -> float:
    """Return the plain number of seconds of an integer or a float.

    :raises TypeError: when the value is neither.
    """
    return float.__float__(value) if isinstance(value, float) else as_int(value)


def plain_number(value: object, *path: str) -> int:
    """Return the plain value of an integer.

    :param value: the value.
    :param path: the field, for the error.
    :raises EncodeError: when the value is not an integer.
    """
    try:
        return as_int(value)
    except Exception:
        raise EncodeError(f"{describe_value(value)} is not an integer", path) from None


def number_within(value: object, most: int, *path: str) -> int:
    """Return the plain value of an integer from 0 to ``most``.

    :param value: the value.
    :param most: the largest number.
    :param path: the field, for the error.
    :raises EncodeError: when the value is out of range or not an integer.
    """
    number = plain_number(value, *path)
    if not 0 <= number <= most:
        raise EncodeError(f"{describe_number(number)} is not in the range from 0 to {most}", path)
    return number
