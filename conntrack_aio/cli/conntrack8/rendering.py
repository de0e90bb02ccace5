"""Render flows, expectations and events as conntrack(8) prints them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .output_options import OutputOptions
from .text import flow_text, names_by_bit

if TYPE_CHECKING:
    from ...model.events import Event, FlowEvent
    from ...model.expectations import Expectation, ExpectEvent
    from ...model.flow import Flow
    from ...model.labels import LabelNames


class Renderer:
    """Renders objects of the model with the output options of one command.

    Each method returns whole lines. Text of the kernel that is not UTF-8, such as the name of a
    helper, has surrogate escapes for its other bytes.
    """

    def __init__(
        self, output: OutputOptions, labels: LabelNames | None, *, many: bool = False
    ) -> None:
        """Create a renderer.

        :param output: the output options.
        :param labels: the names of the labels. As conntrack(8) does, no labels are printed if there
            are no names at all, which ``None`` means, too.
        :param many: whether compiled functions write the text of flows from their messages.
            Compiling them takes as long as writing a thousand flows from their fields. The decoder
            keeps messages while a program does not read fields, so this begins with the first flow.
        """
        self._output = output
        self._names = {} if labels is None else names_by_bit(labels)
        self._many = many

    def flows(self, flows: Sequence[Flow], *, command: str = "-A") -> str:
        """Return the lines of flows.

        :param flows: the flows.
        :param command: the command before the options that SAVE writes. conntrack(8) writes ``-D``
            for the flows that it has deleted, and ``-A`` for all others.
        """
        if self._output & OutputOptions.XML:
            from .xml import flow_xml

            return _joined([flow_xml(each, self._output, self._names) for each in flows])
        if self._output & OutputOptions.SAVE:
            from .save import flow_options

            return _joined([flow_options(each, command, self._names) for each in flows])
        return _joined(self._texts(flows))

    def events(self, events: Sequence[FlowEvent]) -> str:
        """Return the lines of events of flows."""
        from .events import command_of, program_texts, type_text

        programs = program_texts(events)
        if self._output & OutputOptions.XML:
            from .xml import flow_xml

            lines = [flow_xml(each.flow, self._output, self._names, each) for each in events]
        elif self._output & OutputOptions.SAVE:
            from .save import flow_options

            lines = [flow_options(each.flow, command_of(each), self._names) for each in events]
        else:
            texts = self._texts([each.flow for each in events])
            lines = [
                f"{self._time(event)}{type_text(event)}{text}"
                for event, text in zip(events, texts, strict=True)
            ]
        return _joined(
            [f"{line}{programs[each.port_id]}" for each, line in zip(events, lines, strict=True)]
        )

    def expectations(self, expectations: Sequence[Expectation]) -> str:
        """Return the lines of expectations."""
        if self._output & OutputOptions.XML:
            from .xml import expectation_xml

            return _joined([expectation_xml(each, self._output) for each in expectations])
        from .expectation_text import expectation_text

        return _joined([self._time(None) + expectation_text(each) for each in expectations])

    def expectation_events(self, events: Sequence[ExpectEvent]) -> str:
        """Return the lines of events of expectations."""
        if self._output & OutputOptions.XML:
            from .xml import expectation_xml

            return _joined(
                [expectation_xml(each.expectation, self._output, each) for each in events]
            )
        from .events import type_text
        from .expectation_text import expectation_text

        return _joined(
            [
                f"{self._time(each)}{type_text(each)}{expectation_text(each.expectation)}"
                for each in events
            ]
        )

    def header(self, root: str = "conntrack") -> str:
        """Return what precedes the first line.

        conntrack(8) prints it only if there is a line, and never for the flows that it deletes.

        :param root: the root element of XML: ``conntrack`` or ``expect``.
        """
        if not self._output & OutputOptions.XML:
            return ""
        from .xml import DECLARATION

        return f"{DECLARATION}<{root}>\n"

    def footer(self, root: str = "conntrack") -> str:
        """Return what follows the last line.

        conntrack(8) prints it if :meth:`header` was printed, but not after a single look-up.

        :param root: the root element of XML: ``conntrack`` or ``expect``.
        """
        return f"</{root}>\n" if self._output & OutputOptions.XML else ""

    def _texts(self, flows: Sequence[Flow]) -> list[str]:
        """Return the lines of text of flows."""
        if not self._many:
            return [flow_text(each, self._output, self._names) for each in flows]
        from ...codec.line_forms import lines_of
        from .text_writer import FlowTextForm

        return lines_of(flows, FlowTextForm(self._output, tuple(self._names.items())))

    def _time(self, event: Event | None) -> str:
        """Return what the option TIMESTAMP adds before a line."""
        if not self._output & OutputOptions.TIMESTAMP:
            return ""
        from .events import time_text

        return time_text(event)


def _joined(lines: list[str]) -> str:
    return "".join([f"{line}\n" for line in lines])
