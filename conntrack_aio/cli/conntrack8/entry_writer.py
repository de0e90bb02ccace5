"""Write entries to standard output in the form that a command asks for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..output import write_lines
from .actions import Action
from .commands import Command
from .label_names import PATH, read_label_names
from .output_options import OutputOptions
from .rendering import Renderer

if TYPE_CHECKING:
    from ...model.events import FlowEvent
    from ...model.expectations import Expectation, ExpectEvent
    from ...model.flow import Flow
    from ...model.labels import LabelNames


class EntryWriter:
    """Writes entries, and counts them."""

    def __init__(self, command: Command, *, root: str = "", many: bool = False) -> None:
        """Create a writer.

        :param command: the command, which has the output options.
        :param root: the root element that precedes the first entry in XML; empty for none.
        :param many: whether many flows are to be expected: see :class:`Renderer`.
        """
        output = command.output
        # The program prints labels for every option about labels, but never those of a flow that
        # it has deleted.
        if command.action is Action.DELETE:
            output &= ~OutputOptions.LABELS
        elif command.label_names is not None:
            output |= OutputOptions.LABELS
        self._renderer = Renderer(output, _label_names(command), many=many)
        self._root = root
        self.count = 0

    def flows(self, flows: Sequence[Flow], *, command: str = "-A") -> None:
        """Write flows.

        :param command: the command that saved options begin with.
        """
        self._write(self._renderer.flows(flows, command=command), len(flows))

    def expectations(self, expectations: Sequence[Expectation]) -> None:
        """Write expectations."""
        self._write(self._renderer.expectations(expectations), len(expectations))

    def flow_events(self, events: Sequence[FlowEvent]) -> None:
        """Write events of flows at once."""
        self._write(self._renderer.events(events), len(events), flush=True)

    def expectation_events(self, events: Sequence[ExpectEvent]) -> None:
        """Write events of expectations at once."""
        self._write(self._renderer.expectation_events(events), len(events), flush=True)

    def close(self) -> None:
        """Write what follows the last entry, if there is an entry."""
        if self._root and self.count:
            write_lines(self._renderer.footer(self._root))

    def _write(self, lines: str, count: int, *, flush: bool = False) -> None:
        if not count:
            return
        header = self._renderer.header(self._root) if self._root and not self.count else ""
        self.count += count
        write_lines(header + lines, flush=flush)


def _label_names(command: Command) -> LabelNames | None:
    """Return the names of labels, as far as the output needs them.

    Saved labels have names, without an option about labels. If there is no file with names, they
    are lost without a message, as conntrack(8) loses them.
    """
    bits = command.label_names
    if OutputOptions.SAVE in command.output and os.path.exists(PATH):
        bits = read_label_names()
    if not bits:
        return None
    from ...model.labels import LabelNames

    return LabelNames(bits)
