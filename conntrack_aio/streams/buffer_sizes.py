"""The sizes of a stream's receive buffer."""

from __future__ import annotations

from typing import Final, NamedTuple

from ..plain import as_int, describe_value

DEFAULT_RECEIVE_BUFFER: Final = 8 * 1024 * 1024
"""Room for about 13,000 events. The memory is used only while they wait."""


class BufferSizes(NamedTuple):
    """The sizes of a receive buffer in bytes, as requested; the kernel doubles them for its
    overhead."""

    initial: int
    maximum: int | None
    """The size up to which it grows after overruns; ``None`` keeps it as it is."""


def check_buffer_sizes(initial: int, maximum: int | None) -> BufferSizes:
    """Return the sizes of a receive buffer, as plain numbers.

    :param initial: the ``receive_buffer`` of the caller.
    :param maximum: the ``receive_buffer_max`` of the caller.

    :raises TypeError: when a size is not a number of bytes.
    :raises ValueError: when the kernel could not double a size in 32 bits, or when the maximum is
        below the initial size.
    """
    initial = _check_size("receive_buffer", initial)
    if maximum is not None:
        maximum = _check_size("receive_buffer_max", maximum)
        if maximum < initial:
            raise ValueError(
                f"receive_buffer_max is {maximum}, below the receive_buffer of {initial}"
            )
    return BufferSizes(initial, maximum)


def _check_size(name: str, size: int) -> int:
    try:
        size = as_int(size)
    except TypeError:
        raise TypeError(f"{name} must be a number of bytes; got {describe_value(size)}") from None
    if not 0 < size < 1 << 30:
        shown = describe_value(size)
        raise ValueError(f"{name} must be at least 1 byte and below 2^30 bytes; got {shown}")
    return size
