"""Layouts: compiled readers, each for the messages of one skeleton.

A message has a known skeleton when its masked bytes equal those of the message that the layout was
compiled from. Then a generated function (:mod:`.layout_writer`) creates the object from it. The
result is that of the reference decoder; a layout is only faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from ..netlink.attributes import BytesLike
from .layout_writer import Build, Compiler, Make, State
from .lazy_objects import HeaderField
from .skeleton import Survey

_LARGEST_DATAGRAM: Final = 1 << 16
"""Bytes of a datagram whose messages are compared at once."""


class Layout:
    """A compiled reader."""

    def __init__(
        self,
        surveyed: Survey,
        message: bytes,
        header_values: Mapping[str, object],
        header_fields: Mapping[str, HeaderField],
    ) -> None:
        """Compile a reader for messages like this one.

        :param surveyed: the survey of the message, with offsets from its first header on.
        :param message: the message, from its first header on.
        :param header_values: the values of the fields that follow from the type and the flags.
        :param header_fields: the fields whose values are in the headers.
        """
        mask = bytearray(len(message))
        for start, end in surveyed.fixed:
            mask[start:end] = b"\xff" * (end - start)
        self.head: Final = message[:8]
        """The header's length, type and flags. The caller compares them."""
        self.size: Final = len(message)
        """Bytes of a message."""
        self.step: Final = (len(message) + 3) & ~3
        """Bytes of a message with the padding that follows it."""
        self.mask: Final = int.from_bytes(mask, "little")
        """The bits of a message that are the same in all messages of the skeleton, as a
        little-endian number."""
        self.template: Final = self.mask & int.from_bytes(message, "little")
        """The values of these bits, as a little-endian number."""
        self.makes: Final[dict[State, Make]] = {}
        """The functions that create an object, by the state that they create it in."""
        self._builds: dict[State, Build] = {}
        self._compiler = Compiler(surveyed, len(message), header_values, header_fields)
        self._fixed: list[_FixedNumber] | None = None

    def make(self, message: bytes, state: State) -> Any:
        """Return the object of a message.

        :param message: the message, of :attr:`size` bytes.
        :param state: the state in which the object is created.
        """
        make = self.makes.get(state)
        if make is None:
            make = self.makes[state] = self._compiler.compile_make(state)
        return make(message)

    def read_run(self, messages: BytesLike, state: State, add: Callable[..., None]) -> None:
        """Read consecutive messages that have the skeleton, and pass the object of each to ``add``.

        :param messages: the messages, each of :attr:`step` bytes.
        :param state: the state in which objects are created.
        :param add: called with each object.
        """
        build = self._builds.get(state)
        if build is None:
            build = self._builds[state] = self._compiler.compile_build(state)
        build(messages, add)

    def count_run(self, buffer: bytes, offset: int, seq: bytes | None) -> int:
        """Return how many consecutive messages from ``offset`` on have this skeleton.

        The messages are compared number by number. That takes a third of the time of comparing one
        message after the other.

        :param buffer: the datagram.
        :param offset: the offset of the first message.
        :param seq: the sequence number that the messages must have, as in the header.
        """
        limit = _LARGEST_DATAGRAM // self.step
        count = min((len(buffer) - offset) // self.step, limit)
        if self._fixed is None:
            self._fixed = self._make_fixed(limit)
        view = memoryview(buffer)[offset : offset + count * self.step]
        for number in self._fixed:
            count = number.count_equal(view, count)
        if seq is not None:
            count = _FixedNumber(8, self.step, seq, limit).count_equal(view, count)
        return count

    def _make_fixed(self, limit: int) -> list[_FixedNumber]:
        mask = b"\xff" * 8 + self.mask.to_bytes(self.step, "little")[8:]
        template = self.head + self.template.to_bytes(self.step, "little")[8:]
        fixed: list[_FixedNumber] = []
        at = 0
        while at < self.step:
            size = self._fixed_size(mask, at)
            if size:
                fixed.append(_FixedNumber(at, self.step, template[at : at + size], limit))
            at += size or 1
        return fixed

    def _fixed_size(self, mask: bytes, at: int) -> int:
        """Return the size of the largest number at an offset of which all bits are fixed, or 0."""
        sizes = [
            size
            for size in _FORMATS
            if self.step % size == 0 and mask[at : at + size] == b"\xff" * size
        ]
        return max(sizes, default=0)


_FORMATS: Final[dict[int, Literal["B", "H", "I", "Q"]]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
"""The formats of memoryviews with numbers of so many bytes."""


class _FixedNumber:
    """A number that is the same, at the same offset, in every message of a skeleton."""

    def __init__(self, offset: int, step: int, number: bytes, limit: int) -> None:
        self._format: Literal["B", "H", "I", "Q"] = _FORMATS[len(number)]
        self._offset = offset
        self._size = len(number)
        self._step = step // len(number)
        self._number = number
        self._expected = memoryview(number * limit).cast(self._format)

    def count_equal(self, messages: memoryview, count: int) -> int:
        """Return how many of the first ``count`` messages have the number, up to the first other.

        The messages must be consecutive, each of the same size.
        """
        if not count:
            return 0
        end = self._offset + ((count - 1) * self._step + 1) * self._size
        found = messages[self._offset : end].cast(self._format)[:: self._step]
        if found == self._expected[:count]:
            return count
        (number,) = memoryview(self._number).cast(self._format)
        return next(i for i, other in enumerate(found) if other != number)
