"""Sinks: what writes records to one destination. Programs can write their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .records import Record


class SinkError(Exception):
    """A destination does not take records at the moment. The exporter tries again later.

    The text says what was tried, what the destination answered, and what to do.
    """


class Sink(Protocol):
    """Writes records to one destination. An exporter calls one method at a time."""

    @property
    def name(self) -> str:
        """What messages call the destination: its URL without a password."""
        ...

    async def open(self) -> None:
        """Connect to the destination. Called again after :exc:`SinkError`.

        :raises SinkError: when that fails.
        """
        ...

    async def write(self, records: Sequence[Record]) -> int:
        """Write records, and return how many of the first ones the destination has taken.

        The others are written again later, after :meth:`open`.

        :raises SinkError: when it has taken none.
        """
        ...

    async def flush(self) -> None:
        """Have the destination keep what was written.

        :raises SinkError: when it does not.
        """
        ...

    async def close(self) -> None:
        """End the connection. Raises nothing."""
        ...

    async def reopen(self) -> None:
        """Do what a program does on SIGHUP: files are opened again under their names.

        :raises SinkError: when that fails.
        """
        ...
