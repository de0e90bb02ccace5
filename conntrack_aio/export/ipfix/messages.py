"""Write IPFIX messages: templates, data records and sequence numbers (RFC 7011)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from . import elements as e
from .elements import Element
from .layouts import Values

VERSION: Final = 10
_HEADER: Final = struct.Struct("!HHIII")
_SET: Final = struct.Struct("!HH")
_TEMPLATE: Final = struct.Struct("!HH")
_OPTIONS_TEMPLATE: Final = struct.Struct("!HHH")
_FIELD: Final = struct.Struct("!HH")
_FIELD_WITH_PEN: Final = struct.Struct("!HHI")
_ENTERPRISE: Final = 0x8000
_TEMPLATE_SET: Final = 2
_OPTIONS_TEMPLATE_SET: Final = 3
_FIRST_TEMPLATE: Final = 256
_LARGEST_MESSAGE: Final = 65_535

_GAP: Final = (e.OBSERVATION_DOMAIN, e.OBSERVATION_TIME, e.NOT_SENT_FLOWS)
"""The elements of an options record about a gap; the first one is its scope."""


class _Template:
    """A template, and the packer of its records."""

    def __init__(self, number: int, elements: tuple[Element, ...], scopes: int = 0) -> None:
        self.number = number
        self.pack = struct.Struct("!" + "".join([each.code for each in elements])).pack
        self.length = sum(each.length for each in elements)
        fields = b"".join(map(_field, elements))
        if scopes:
            head = _OPTIONS_TEMPLATE.pack(number, len(elements), scopes)
            self.set = _as_set(_OPTIONS_TEMPLATE_SET, head + fields)
        else:
            self.set = _as_set(_TEMPLATE_SET, _TEMPLATE.pack(number, len(elements)) + fields)


class MessageWriter:
    """Writes the messages of one transport session: a TCP connection, or the datagrams to a host.

    Records are collected into messages of limited size. A template precedes its first record.
    """

    def __init__(self, *, domain: int, largest: int = _LARGEST_MESSAGE) -> None:
        """Start a session, whose first message has the sequence number 0.

        :param domain: the observation domain id, a number of 32 bits.
        :param largest: the size in bytes that no message exceeds.
        :raises ValueError: when a number is out of range.
        """
        if not 0 <= domain < 1 << 32:
            raise ValueError(f"the observation domain must be a number of 32 bits; got {domain}")
        if not 512 <= largest <= _LARGEST_MESSAGE:
            raise ValueError(f"a message may have 512 to 65535 bytes; got {largest}")
        self._domain = domain
        self._room = largest - _HEADER.size
        self._templates: dict[tuple[Element, ...], _Template] = {}
        self._gap: _Template | None = None
        self._announced: set[int] = set()
        self._sequence = 0
        self._sets: list[bytes] = []
        self._size = 0
        self._open: list[bytes] = []
        """The records of the data set that is being filled."""
        self._open_template: _Template | None = None
        self._records = 0

    def announce_again(self) -> None:
        """Have each template precede its next record again, as UDP needs from time to time."""
        self._announced.clear()

    def add(self, values: Values, time: int) -> bytes | None:
        """Add a data record, and return a message if one is full.

        :param values: the elements and values of the record.
        :param time: the time of the export, in nanoseconds since 1970.
        """
        shape = tuple([element for element, _ in values])
        template = self._templates.get(shape)
        if template is None:
            number = _FIRST_TEMPLATE + len(self._templates) + 1
            template = self._templates[shape] = _Template(number, shape)
        return self._add(template, template.pack(*[value for _, value in values]), time)

    def add_gap(self, at: int, count: int, time: int) -> bytes | None:
        """Add an options record which says that flow records are missing.

        :param at: when the gap was noticed, in nanoseconds since 1970.
        :param count: how many flow records were not sent until now, in all.
        :param time: see :meth:`add`.
        """
        if self._gap is None:
            self._gap = _Template(_FIRST_TEMPLATE, _GAP, scopes=1)
        record = self._gap.pack(self._domain, at // 1_000_000, count)
        return self._add(self._gap, record, time)

    def flush(self, time: int) -> bytes | None:
        """Return a message with what was added; ``None`` if there is nothing.

        :param time: see :meth:`add`.
        """
        self._close_set()
        if not self._sets:
            return None
        body = b"".join(self._sets)
        header = _HEADER.pack(
            VERSION,
            _HEADER.size + len(body),
            time // 1_000_000_000 & 0xFFFFFFFF,
            self._sequence,
            self._domain,
        )
        self._sequence = (self._sequence + self._records) & 0xFFFFFFFF
        self._sets, self._size, self._records = [], 0, 0
        return header + body

    def _add(self, template: _Template, record: bytes, time: int) -> bytes | None:
        needed = len(record)
        if template is not self._open_template:
            needed += _SET.size
        if template.number not in self._announced:
            needed += len(template.set)
        message = self.flush(time) if self._size + needed > self._room else None
        if template is not self._open_template:
            self._close_set()
            if template.number not in self._announced:
                self._announced.add(template.number)
                self._sets.append(template.set)
                self._size += len(template.set)
            self._open_template = template
            self._size += _SET.size
        self._open.append(record)
        self._size += len(record)
        self._records += 1
        return message

    def _close_set(self) -> None:
        if self._open_template is not None:
            self._sets.append(_as_set(self._open_template.number, b"".join(self._open)))
            self._open, self._open_template = [], None


def messages_of(writer: MessageWriter, records: Iterable[Values], time: int) -> Iterator[bytes]:
    """Yield the messages that have all of some records."""
    for values in records:
        message = writer.add(values, time)
        if message is not None:
            yield message
    message = writer.flush(time)
    if message is not None:
        yield message


def _field(element: Element) -> bytes:
    if element.pen is None:
        return _FIELD.pack(element.number, element.length)
    return _FIELD_WITH_PEN.pack(element.number | _ENTERPRISE, element.length, element.pen)


def _as_set(number: int, content: bytes) -> bytes:
    return _SET.pack(number, _SET.size + len(content)) + content
