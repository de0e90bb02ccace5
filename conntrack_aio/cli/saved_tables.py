"""Files with a saved table: how they are written, and how they are read and checked.

A file is JSON Lines:

- The first line names the format, its version, and the time at which the table was saved.
- Each flow is a line as :func:`to_json` writes it.
- Each expectation is a line ``{"expectation": …}``, which has the zone of its master as ``zone``.
- The last line has the numbers of flows and expectations. A file without it was cut off.

A file is checked completely before anything is done with it. Then it is read once more, so that a
large table does not have to fit into memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import BinaryIO, Final, NoReturn

import attrs

from ..bulk.new_flow import NewFlow
from ..codec.json import from_dict, to_dict
from ..codec.json_values import JSON, describe_json
from ..errors import ConntrackError, EncodeError
from ..model.enums import Status
from ..model.expectations import Expectation
from ..model.flow import Flow
from ..model.values import describe_error, number_within
from .failures import CommandError

FORMAT: Final = "conntrack_aio table"
VERSION: Final = 1

OFFLOADED_TIMEOUT: Final = 120
"""The timeout in seconds of a flow that was offloaded when it was saved, which has none."""

_STANDARD_INPUT: Final = "-"

_LONGEST_LINE: Final = 1 << 20
"""No line of a saved table has this many bytes. Other files may be one endless line."""

_CONNTRACK_SAVE: Final = re.compile(rb"\s*-[AIUD] ")
"""How each line begins that conntrack(8) writes with ``-o save``."""

_KEPT: Final = 100_000
"""Up to how many flows are kept in memory, about 1 KB each, instead of reading them once more."""


@attrs.frozen
class SavedExpectation:
    """An expectation, and the zone in which its master is found: a line of a file."""

    expectation: Expectation
    zone: int | None = None


def first_line(time: int) -> str:
    """Return the first line of a file.

    :param time: the time at which the table is saved, in nanoseconds since 1970.
    """
    return _line({"format": FORMAT, "version": VERSION, "time": time})


def expectation_line(saved: SavedExpectation) -> str:
    """Return the line of an expectation."""
    return _line(to_dict(saved))


def last_line(flows: int, expectations: int) -> str:
    """Return the last line of a file, with the numbers of flows and expectations."""
    return _line({"end": {"flows": flows, "expectations": expectations}})


def _line(data: Mapping[str, JSON]) -> str:
    return f"{json.dumps(data)}\n"


class SavedTable:
    """A file with a saved table, which was checked."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        """Check the first line.

        :param file: the file, at the start of the table.
        :param name: the name of the file, for errors.
        :raises CommandError: when this is not the first line of a saved table.
        """
        self._file = file
        self._copy: BinaryIO | None = None
        self._name = name
        self._start = file.tell() if file.seekable() else 0
        self._first = file.readline(_LONGEST_LINE)
        self.time = self._check_first_line()
        """The time at which the table was saved, in nanoseconds since 1970."""
        self.flows = 0
        """The number of flows."""
        self.related: list[Flow] = []
        """The flows with a master."""
        self.expectations: list[SavedExpectation] = []
        self.checked = 0
        """The number of lines that were checked so far."""
        self._kept: list[Flow] | None = []
        """The other flows; ``None`` if there are too many to keep."""

    def check(self) -> None:
        """Check all lines.

        :raises CommandError: when a line is not that of a saved table. It names the line.
        """
        self._make_seekable()
        for number, item in self._items():
            self.checked = number
            if isinstance(item, SavedExpectation):
                self.expectations.append(item)
            else:
                self.flows += 1
                if item.master is not None:
                    self.related.append(item)
                elif self._kept is not None:
                    self._kept.append(item)
                    if len(self._kept) > _KEPT:
                        self._kept = None

    def unrelated(self) -> Iterator[Flow]:
        """Yield the flows without a master.

        :raises CommandError: when the file has changed since it was checked.
        """
        if self._kept is not None:
            return iter(self._kept)
        items = (item for _, item in self._items())
        return (item for item in items if isinstance(item, Flow) and item.master is None)

    def close(self) -> None:
        """Close the copy of what came through a pipe, but not the file."""
        if self._copy is not None:
            self._copy.close()

    def _make_seekable(self) -> None:
        """Copy what comes through a pipe to a file, so that it can be read more than once."""
        if self._file.seekable():
            return
        try:
            copy = self._copy = TemporaryFile()  # noqa: SIM115 - close() closes it
            copy.write(self._first)
            copyfileobj(self._file, copy)
        except OSError as error:
            raise CommandError(
                f"{self._name}: it cannot be copied to a temporary file: {error}"
            ) from None
        self._file = copy

    def _items(self) -> Iterator[tuple[int, Flow | SavedExpectation]]:
        """Yield the number of each line and what it has, up to the last line, which is checked."""
        flows = expectations = 0
        ended = False
        number = 0
        for number, line in self._lines():
            if number == 1:
                continue
            data = self._parse(number, line)
            if ended:
                self._refuse(number, "something follows the last line of the table")
            if "end" in data:
                self._check_last_line(number, data, flows, expectations)
                ended = True
                continue
            try:
                item = _item_of(data)
            except ConntrackError as error:
                self._refuse(number, error)
            if isinstance(item, Flow):
                flows += 1
            else:
                expectations += 1
            yield number, item
        if not ended:
            self._refuse(number, "the file ends here, without its last line: it was cut off")

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        self._file.seek(self._start)
        number = 0
        while line := self._file.readline(_LONGEST_LINE):
            number += 1
            yield number, line

    def _check_first_line(self) -> int:
        if not self._first:
            raise CommandError(f"{self._name}: the file is empty, so it is no saved table")
        if _CONNTRACK_SAVE.match(self._first):
            self._refuse(
                1,
                "this is the output of `conntrack -o save`; restore it with "
                "`conntrack-aio -R FILE`",
            )
        data = self._parse(1, self._first)
        if data.get("format") != FORMAT:
            self._refuse(1, "this is not the first line of a table that `save` wrote")
        version, time = data.get("version"), data.get("time")
        if version != VERSION or isinstance(version, bool):
            shown = describe_json(version)
            self._refuse(1, f"version {shown} of the format is not known; expected {VERSION}")
        if not isinstance(time, int) or isinstance(time, bool):
            self._refuse(1, f"time: must be a number; got {describe_json(time)}")
        return time

    def _check_last_line(
        self, number: int, data: dict[str, JSON], flows: int, expectations: int
    ) -> None:
        found: JSON = {"flows": flows, "expectations": expectations}
        if data != {"end": found}:
            self._refuse(
                number,
                f"there are {flows} flows and {expectations} expectations above, but the last line "
                f"is {describe_json(data)}: lines are missing or were added",
            )

    def _parse(self, number: int, line: bytes) -> dict[str, JSON]:
        if len(line) == _LONGEST_LINE:
            self._refuse(number, "this is longer than any line of a saved table")
        try:
            data: JSON = json.loads(line)
        except (ValueError, RecursionError) as error:
            self._refuse(number, f"this is not JSON: {describe_error(error)}")
        if not isinstance(data, dict):
            self._refuse(number, f"must be an object; got {describe_json(data)}")
        return data

    def _refuse(self, number: int, reason: object) -> NoReturn:
        raise CommandError(f"{self._name}: line {number}: {reason}")


def _item_of(data: dict[str, JSON]) -> Flow | SavedExpectation:
    """Return what a line has.

    :raises ConntrackError: when it is not valid.
    """
    if "expectation" in data:
        saved = from_dict(SavedExpectation, data)
        if saved.zone is not None:
            number_within(saved.zone, 0xFFFF, "zone")
        return saved
    return _restorable(from_dict(Flow, data))


def _restorable(flow: Flow) -> Flow:
    """Return the flow without what identifies its former entry.

    :raises EncodeError: when no entry can be created from the flow.
    """
    flow.id = flow.timestamp = None
    if flow.timeout is None:
        if flow.status is None or not flow.status & Status.OFFLOAD:
            raise EncodeError("a flow that is not offloaded needs one", ("timeout",))
        flow.timeout = OFFLOADED_TIMEOUT
    flow.validate()
    if flow.status is not None and flow.status & Status.NAT_DONE_MASK:
        NewFlow.from_flow(flow)
    return flow


@contextmanager
def opened(path: str) -> Generator[SavedTable]:
    """Open a file, and check the first line of its table.

    :param path: the file; ``-`` for standard input.
    :raises CommandError: when the file has no saved table.
    :raises OSError: when the file cannot be opened or read.
    """
    with ExitStack() as stack:
        if path == _STANDARD_INPUT:
            name = "standard input"
            file = stack.enter_context(open(0, "rb", closefd=False))
        else:
            name = path
            file = stack.enter_context(open(path, "rb"))
        table = SavedTable(file, name)
        stack.callback(table.close)
        yield table
