"""Compile a match to a program of classic BPF that the kernel runs on each event.

- The kernel runs the program before it queues an event, and drops events that it does not accept.
- The program accepts every event that matches. It may accept others, which the library checks.
- An event may leave out a field that the flow has. A condition on such a field is unknown. It
  counts as true, so that the event is accepted; below a ``not`` it counts as false, for the same
  reason.
- Conditions on the mark, the zone and the fields of tuples are never unknown: an event leaves out
  only a mark or zone of 0, and fields that the protocol lacks.
"""

from __future__ import annotations

from typing import Final

import attrs

from ..netlink.bpf import Program, ProgramTooLong
from .approximate import union_by_field
from .instructions import ProgramWriter
from .nodes import Node

_RANGE_LIMITS: Final = (None, 1024, 256, 64, 16, 4, 1)
"""How many ranges a condition may have: each is tried until the program is short enough. ``None``
is no limit."""


@attrs.frozen
class EventFilter:
    """A program that the kernel filters events by."""

    program: Program
    """The instructions."""
    exact: bool
    """Whether the program accepts only events that match."""


class ProgramCompiler:
    """A compiler of one match, which is not always true, to programs of different length."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._union: Node | None = None

    def _union_by_field(self) -> Node:
        """Return what the match requires of single fields. Computed once."""
        if self._union is None:
            self._union = union_by_field(self._node)
        return self._union

    def compile(self, *, constant_only: bool, limit: int) -> EventFilter | None:
        """Return the most selective program, or ``None``.

        It is ``None`` if the program accepts every event, or if no program is short enough.

        The match itself is tried first, with fewer and fewer ranges. If no such program is short
        enough, the union of its alternatives by field is tried in the same way.

        :param constant_only: test only fields that never change while a flow exists.
        :param limit: how many instructions the program may have.
        """
        for use_union in (False, True):
            node = self._union_by_field() if use_union else self._node
            for max_ranges in _RANGE_LIMITS:
                found = self._try(node, max_ranges, constant_only=constant_only, limit=limit)
                if found is not None:
                    program, exact = found
                    if len(program) == 1:  # it accepts everything
                        return None
                    return EventFilter(program, exact and node is self._node)
                # If the program with the fewest ranges is too long, so are all in between.
                if (
                    max_ranges is None
                    and self._try(node, 1, constant_only=constant_only, limit=limit) is None
                ):
                    break
        return None

    def _try(
        self, node: Node, max_ranges: int | None, *, constant_only: bool, limit: int
    ) -> tuple[Program, bool] | None:
        """Return a program and whether it is exact; ``None`` if it would be too long."""
        writer = ProgramWriter(limit, max_ranges, constant_only=constant_only)
        try:
            return writer.write(node), writer.exact
        except ProgramTooLong:
            return None
