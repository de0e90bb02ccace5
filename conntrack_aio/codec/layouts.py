"""Layouts: compiled readers, each for the messages of one skeleton.

A message has a known skeleton when its masked bytes equal those of the message that the layout was
compiled from. Then a generated function (:mod:`.layout_writer`) creates the object from it. The
result is that of the reference decoder; a layout is only faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from ..netlink.attributes import BytesLike
from .header_fields import HeaderField
from .layout_writer import Compiler, Make, State
from .skeleton import Survey

_LARGEST_DATAGRAM: Final = 1 << 16
"""Bytes of a datagram whose messages are compared at once."""

_RUNS_PER_CHOICE: Final = 64
"""After how many runs, of up to 64 messages each, another builder may be chosen. Choosing takes as
long as creating a dozen objects."""

_SAMPLE: Final = 16
"""How many messages are examined at least."""

_VARIED: Final = 0.9
"""The share of messages with different addresses from which on these are not looked up."""


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
        self._readers: dict[State, _MessageReader] = {}
        self.skeleton: Final = surveyed.skeleton
        """Where the values are, with offsets from the first header on."""
        self.header_values: Final = header_values
        """The values of the fields that follow from the type and the flags."""
        self._runs: dict[State, _RunReader] = {}
        self._compiler = Compiler(surveyed, len(message), header_values, header_fields)
        self._fixed: list[_FixedNumber] | None = None
        self._checks: list[_Check] | None = None

    def make(self, message: bytes, state: State) -> Any:
        """Return the object of a message.

        :param message: the message, of :attr:`size` bytes.
        :param state: the state in which the object is created.
        """
        return self._reader(state).make(message)

    def make_sampled(self, message: bytes, state: State) -> Any:
        """Return the object of a message, as :meth:`make` does.

        The message is one of those by which :meth:`chosen_make` is chosen.
        """
        return self._reader(state).make_sampled(message)

    def chosen_make(self, state: State) -> Make | None:
        """Return the fastest function that creates the object of a message, in a state.

        :returns: ``None`` until enough messages were passed to :meth:`make_sampled`.
        """
        reader = self._readers.get(state)
        return None if reader is None else reader.chosen

    def choose_again(self) -> None:
        """Forget what was chosen, because messages may have changed."""
        for reader in tuple(self._readers.values()):
            reader.chosen = None

    def _reader(self, state: State) -> _MessageReader:
        reader = self._readers.get(state)
        if reader is None:
            reader = self._readers[state] = _MessageReader(self._compiler, state)
        return reader

    def read_run(self, messages: BytesLike, state: State, add: Callable[..., None]) -> None:
        """Read consecutive messages that have the skeleton, and pass the object of each to ``add``.

        :param messages: the messages, each of :attr:`step` bytes.
        :param state: the state in which objects are created.
        :param add: called with each object.
        """
        reader = self._runs.get(state)
        if reader is None:
            reader = self._runs[state] = _RunReader(self._compiler, state, self.step)
        reader.read(messages, add)

    def reads(self, message: bytes, seq: bytes | None) -> bool:
        """Return whether a message has this skeleton.

        :param message: the message, from its first header on.
        :param seq: the sequence number that it must have, as in the header; ``None`` for any.
        """
        return (
            int.from_bytes(message, "little") & self.mask == self.template
            and (seq is None or message[8:12] == seq)
            and len(message) == self.size
        )

    def reads_all(self, messages: PackedMessages, seq: bytes | None) -> bool:
        """Return whether messages have this skeleton.

        :param messages: the messages, which have the length, type and flags of this layout.
        :param seq: the sequence number that they must have, as in the header; ``None`` for any.
        """
        if self._checks is None:
            self._checks = [_Check(*number) for number in self._fixed_numbers()]
        if seq is not None and not _Check(8, seq).holds(messages):
            return False
        return all(check.holds(messages) for check in self._checks)

    def fixes(self, offset: int, size: int) -> bool:
        """Return whether some bytes are the same in all messages of the skeleton."""
        bits = (1 << 8 * size) - 1
        return self.mask >> 8 * offset & bits == bits

    def template_bytes(self, offset: int, size: int) -> bytes:
        """Return some bytes of a message, those that are not the same in all messages as 0."""
        return self.template.to_bytes(self.step, "little")[offset : offset + size]

    def _fixed_numbers(self) -> list[tuple[int, bytes]]:
        """Return the offset and the bytes of each number that all messages share.

        The header's are not among them.
        """
        mask = self.mask.to_bytes(self.step, "little")
        template = self.template.to_bytes(self.step, "little")
        fixed: list[tuple[int, bytes]] = []
        at = 8
        while at < self.step:
            sizes = [n for n in (8, 4, 2, 1) if mask[at : at + n] == b"\xff" * n]
            size = next((n for n in sizes if at % min(n, 4) == 0), 0)
            if size:
                fixed.append((at, template[at : at + size]))
            at += size or 1
        return fixed

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


class _MessageReader:
    """Reads single messages of one layout, in one state.

    Looking up an address takes half of the time of creating it. So an address that is another one
    in nearly all messages, as those of the clients of a server may be, is not looked up.
    """

    def __init__(self, compiler: Compiler, state: State) -> None:
        self._compiler = compiler
        self._state = state
        self.make, self._addresses = compiler.compile_make(state)
        self._makes = {frozenset[int](): self.make}
        """The functions, by the offsets of addresses that are not looked up."""
        self._sample: list[bytes] = []
        self.chosen: Make | None = None
        """The function to use; ``None`` while messages are sampled."""

    def make_sampled(self, message: bytes) -> Any:
        self._sample.append(message)
        if len(self._sample) >= _SAMPLE or not self._addresses:
            varied = _varied(self._addresses, self._sample)
            make = self._makes.get(varied)
            if make is None:
                make, _ = self._compiler.compile_make(self._state, varied)
                self._makes[varied] = make
            self._sample, self.chosen = [], make
        return self.make(message)


class _RunReader:
    """Reads runs of messages of one layout, in one state, as :class:`_MessageReader` does."""

    def __init__(self, compiler: Compiler, state: State, step: int) -> None:
        self._compiler = compiler
        self._state = state
        self._step = step
        self._builder = compiler.compile_build(state)
        self._builders = {frozenset[int](): self._builder}
        """The builders, by the offsets of addresses that are not looked up."""
        self._runs = 0

    def read(self, messages: BytesLike, add: Callable[..., None]) -> None:
        """Create the object of each of consecutive messages, and pass it to ``add``."""
        if self._builder.addresses:
            if not self._runs % _RUNS_PER_CHOICE:
                self._choose(bytes(messages))
            self._runs += 1
        self._builder.build(messages, add)

    def _choose(self, messages: bytes) -> None:
        sample = [messages[at : at + self._step] for at in range(0, len(messages), self._step)]
        if len(sample) < _SAMPLE:
            return
        varied = _varied(self._builder.addresses, sample)
        builder = self._builders.get(varied)
        if builder is None:
            builder = self._compiler.compile_build(self._state, varied)
            self._builders[varied] = builder
        self._builder = builder


def _varied(addresses: Mapping[int, int], messages: Sequence[bytes]) -> frozenset[int]:
    """Return the offsets of addresses of which nearly every message has another one.

    :param addresses: the sizes of the addresses, by their offsets.
    :param messages: the messages.
    """
    least = _VARIED * len(messages)
    return frozenset(
        at
        for at, size in addresses.items()
        if len({message[at : at + size] for message in messages}) > least
    )


_FORMATS: Final[dict[int, Literal["B", "H", "I", "Q"]]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
"""The formats of memoryviews with numbers of so many bytes."""


class PackedMessages:
    """Messages of one length in one buffer, each at a multiple of ``stride`` bytes."""

    def __init__(self, messages: Sequence[bytes], step: int) -> None:
        """Join messages.

        :param messages: the messages, each of ``step`` bytes. If that is a multiple of 8, an item
            may also be several consecutive messages.
        :param step: bytes of a message, a multiple of 4.
        """
        padding = bytes(-step % 8)
        self.stride: Final = step + len(padding)
        """Bytes from one message to the next, a multiple of 8."""
        self.data: Final = padding.join([*messages, b""])
        """The messages."""
        self.count: Final = len(self.data) // self.stride
        """The number of messages."""
        view = memoryview(self.data)
        self._numbers = {2: view.cast("H"), 4: view.cast("I")}
        self._wide = view.cast("Q"), view[4:-4].cast("Q")

    def numbers(self, offset: int, size: int) -> memoryview:
        """Return the numbers at an offset of each message, as in the message.

        :param offset: a multiple of the size, or of 4 if the size is 8.
        :param size: 2, 4 or 8 bytes.
        """
        if size == 8:
            return self._wide[offset >> 2 & 1][offset >> 3 :: self.stride >> 3]
        return self._numbers[size][offset // size :: self.stride // size]


class _Check:
    """A number that every message of a skeleton must have at the same offset."""

    def __init__(self, offset: int, number: bytes) -> None:
        self._offset = offset
        self._number = number
        self._expected = memoryview(number).cast(_FORMATS[len(number)])

    def holds(self, messages: PackedMessages) -> bool:
        """Return whether each of the messages has the number."""
        count, size = messages.count, len(self._number)
        if size == 1:
            return messages.data[self._offset :: messages.stride] == self._number * count
        if len(self._expected) < count:
            self._expected = memoryview(self._number * 2 * count).cast(_FORMATS[size])
        return messages.numbers(self._offset, size) == self._expected[:count]


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
