"""Render flows, expectations and events as conntrack(8) prints them."""

from __future__ import annotations

from collections.abc import Sequence

from ...model.events import FlowEvent
from ...model.expectations import Expectation, ExpectEvent
from ...model.flow import Flow
from ...model.labels import LabelNames
from .output_options import OutputOptions


class Renderer:
    """Renders objects of the model with the output options of one command.

    Each method returns whole lines. A text that is not UTF-8, such as the name of a helper, has
    surrogate escapes for its other bytes.
    """

    def __init__(self, output: OutputOptions, labels: LabelNames) -> None:
        """Create a renderer.

        :param output: the output options.
        :param labels: the names of the labels. conntrack(8) prints no labels without any name.
        """
        from .text import names_by_bit

        self._output = output
        self._names = names_by_bit(labels) if output & OutputOptions.LABELS else {}

    def flows(self, flows: Sequence[Flow]) -> str:
        """Return the lines of flows."""
        return _joined([self._flow(flow) for flow in flows])

    def events(self, events: Sequence[FlowEvent]) -> str:
        """Return the lines of events of flows."""
        return _joined([self._event(event) for event in events])

    def expectations(self, expectations: Sequence[Expectation]) -> str:
        """Return the lines of expectations."""
        from .expectation_text import expectation_text

        return _joined([expectation_text(each) for each in expectations])

    def expectation_events(self, events: Sequence[ExpectEvent]) -> str:
        """Return the lines of events of expectations."""
        from .events import time_text, type_text
        from .expectation_text import expectation_text

        timed = bool(self._output & OutputOptions.TIMESTAMP)
        return _joined(
            [
                (time_text(event) if timed else "")
                + type_text(event)
                + expectation_text(event.expectation)
                for event in events
            ]
        )

    def header(self) -> str:
        """Return what precedes the first line. conntrack(8) prints it only if there is a line."""
        return ""

    def footer(self) -> str:
        """Return what follows the last line, if :meth:`header` was printed."""
        return ""

    def _flow(self, flow: Flow) -> str:
        from .text import flow_text

        return flow_text(flow, self._output, self._names)

    def _event(self, event: FlowEvent) -> str:
        from .events import program_text, time_text, type_text

        before = time_text(event) if self._output & OutputOptions.TIMESTAMP else ""
        after = program_text(event) if self._output & OutputOptions.USERSPACE else ""
        return f"{before}{type_text(event)}{self._flow(event.flow)}{after}"


def _joined(lines: list[str]) -> str:
    return "".join([f"{line}\n" for line in lines])
