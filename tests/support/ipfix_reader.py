"""Read IPFIX messages as a collector does: by their templates alone."""

from __future__ import annotations

import struct
from typing import NamedTuple

Field = tuple[int, int | None]
"""The number of an element, and its enterprise number."""


class DataRecord(NamedTuple):
    """A data record: the values by the numbers of their elements, in their order."""

    template: int
    values: dict[Field, bytes]

    def number(self, element: int, pen: int | None = None) -> int:
        """Return a value as a number."""
        return int.from_bytes(self.values[element, pen], "big")


class Message(NamedTuple):
    """A message."""

    export_time: int
    sequence: int
    domain: int
    records: list[DataRecord]
    templates: list[int]
    """The templates that it announces."""


class Collector:
    """Remembers the templates of one session."""

    def __init__(self) -> None:
        self._templates: dict[int, list[tuple[Field, int]]] = {}

    def read(self, data: bytes) -> Message:
        """Read a message.

        :raises AssertionError: when it is not valid, or when a template is not known.
        """
        version, length, time, sequence, domain = struct.unpack_from("!HHIII", data)
        assert (version, length) == (10, len(data))
        message = Message(time, sequence, domain, [], [])
        at = 16
        while at < len(data):
            number, size = struct.unpack_from("!HH", data, at)
            content = data[at + 4 : at + size]
            assert len(content) == size - 4
            if number in (2, 3):
                message.templates.append(self._learn(content, options=number == 3))
            else:
                message.records.extend(self._records(number, content))
            at += size
        return message

    def _learn(self, content: bytes, *, options: bool) -> int:
        number, count = struct.unpack_from("!HH", content)
        at = 6 if options else 4
        fields: list[tuple[Field, int]] = []
        for _ in range(count):
            element, length = struct.unpack_from("!HH", content, at)
            at += 4
            pen: int | None = None
            if element & 0x8000:
                (pen,) = struct.unpack_from("!I", content, at)
                at += 4
            fields.append(((element & 0x7FFF, pen), length))
        assert at == len(content)
        self._templates[number] = fields
        return number

    def _records(self, number: int, content: bytes) -> list[DataRecord]:
        fields = self._templates[number]
        records: list[DataRecord] = []
        at = 0
        while at < len(content):
            values: dict[Field, bytes] = {}
            for field, length in fields:
                values[field] = content[at : at + length]
                at += length
            records.append(DataRecord(number, values))
        assert at == len(content)
        return records
