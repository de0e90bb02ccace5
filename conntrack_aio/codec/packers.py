"""Packers: compiled functions that write requests, each for the requests of one shape.

The shape of a request consists of the types of its values, of which values are absent, and of the
few values that decide what other attributes mean.

- The reference writes the first request of a shape. It checks the values and applies all rules.
- A survey finds the offset of each value in that request. Then a function is generated that checks
  whether another object has the same shape, and packs its values with one :class:`struct.Struct`.
- The reference writes every request that the function cannot write, for example if a value is out
  of range. It also raises the errors.
- The bytes of a request must depend only on its shape and on each value by itself. A packer cannot
  apply a rule that compares values.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Sequence
from typing import Final

from .packed_requests import SEQ, Pack, RequestValue

PACKERS_PER_SHAPE_KEY: Final = 16
"""The largest number of packers for one shape key. The least recently used one is dropped."""

NOT_COMPILED = 2
"""How many requests the reference writes before the first shape is compiled: compiling takes longer
than a program that sends a few requests."""

COMPILED_IMMEDIATELY: Final = 64
"""How many shapes are compiled as soon as a request needs them.

Each further shape is compiled only after the reference has written the same number of requests.
Otherwise requests that all have different shapes would cost more to compile than to write."""


class Packers:
    """The packers of one kind of request."""

    def __init__(
        self,
        arguments: tuple[str, ...],
        make: Callable[..., bytes],
        values: Callable[..., Sequence[RequestValue]],
    ) -> None:
        """Create an empty set of packers.

        :param arguments: the names of the arguments that determine a request.
        :param make: the reference. It returns the whole message with sequence number 0, and
            raises :exc:`EncodeError`.
        :param values: returns every value that a request depends on.
        """
        self.compilations = 0
        """How many packers were compiled, or could not be."""
        self._arguments = arguments
        self._make = make
        self._values = values
        self._credit = COMPILED_IMMEDIATELY
        self._written = 0
        """How many requests the reference has written."""
        self._packers: dict[Hashable, list[Pack]] = {}

    def pack(self, shape_key: Hashable, seq: int, *arguments: object) -> bytes:
        """Return the message for these arguments.

        :param shape_key: a part of the shape that is cheap to find; packers are looked up by it.
        :param seq: the sequence number of the message.
        :param arguments: the arguments that determine the request.
        :raises EncodeError: when the reference raises it.
        """
        try:
            packers = self._packers.get(shape_key, [])
            for index, packer in enumerate(packers):
                packed = packer(seq, *arguments)
                if packed is not None:
                    if index:
                        # The next request probably has the same shape.
                        self._packers[shape_key] = [packer, *packers[:index], *packers[index + 1 :]]
                    return packed
        except Exception:
            pass  # the reference writes the request, or raises the proper error
        data = self._make(*arguments)
        self._compile(shape_key, data, arguments)
        return data[:SEQ] + seq.to_bytes(4, sys.byteorder) + data[SEQ + 4 :]

    def _compile(self, shape_key: Hashable, data: bytes, arguments: Sequence[object]) -> None:
        self._written += 1
        if self._written <= NOT_COMPILED:
            return
        self._credit = min(self._credit + 1, COMPILED_IMMEDIATELY)
        if self.compilations >= COMPILED_IMMEDIATELY and self._credit < COMPILED_IMMEDIATELY:
            return
        if self.compilations >= COMPILED_IMMEDIATELY:
            self._credit = 0
        self.compilations += 1
        # A program that sends a few requests needs no packer.
        from .packer_writer import PackerWriter

        try:
            writer = PackerWriter(self._arguments, self._make, data)
            packer = writer.compile(arguments, self._values(*arguments))
            if packer(0, *arguments) != data:
                return
        except Exception:
            return  # the reference writes such requests
        self._packers[shape_key] = [
            packer,
            *self._packers.get(shape_key, [])[: PACKERS_PER_SHAPE_KEY - 1],
        ]
