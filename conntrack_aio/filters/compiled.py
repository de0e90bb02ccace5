"""Compile a match for each of its uses, and cache the results with it.

- Results are a predicate, filters of dumps, programs for events, and answers such as
  :attr:`CompiledMatch.always`. Each is computed at first use.
- Compiling thousands of conditions takes a large part of a second. So everything that can wait
  compiles large matches on a worker thread (:meth:`CompiledMatch.compute`).
- Two threads may compute the same result at once. The results are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from ..errors import ResourceExhausted
from ..netlink.bpf import MAX_INSTRUCTIONS
from ..netlink.threads import run_in_thread
from .always import is_always_true
from .dump import (
    NO_FEATURES,
    DumpFeatures,
    DumpFilter,
    Requirements,
    compile_dump_filter,
    requirements_of,
)
from .fields import FAMILY, MARK
from .nodes import AllOf, AnyOf, Node, Not
from .predicate import Predicate, compile_predicate
from .program import EventFilter, ProgramCompiler

LARGE: Final = 256
"""A match with more ranges, networks and names than this is compiled on a worker thread."""

_LIMITS: Final = (
    MAX_INSTRUCTIONS,
    MAX_INSTRUCTIONS // 2,
    MAX_INSTRUCTIONS // 4,
    MAX_INSTRUCTIONS // 8,
)
"""The lengths of the programs to try, in instructions. ``net.core.optmem_max`` is 20 KiB on older
kernels, which limits a program to some 2,500 instructions."""

T = TypeVar("T")


class CompiledMatch:
    """The cached results of compiling one match."""

    def __init__(self, node: Node) -> None:
        # Before Python 3.12, cached_property has one lock for all objects. A thread that compiles a
        # large match would block the event loop, which needs a small one.
        self.node = node
        self._always: bool | None = None
        self._constant: bool | None = None
        self._predicate: Predicate | None = None
        self._requirements: Requirements | None = None
        self._compiler = ProgramCompiler(node)
        self._dump_filters: dict[DumpFeatures, DumpFilter] = {}
        """By the kernel features that filters depend on: 16 at most."""
        self._programs: dict[tuple[bool, int], EventFilter | None] = {}
        """By the arguments of :meth:`program`: 8 at most."""

    @property
    def is_large(self) -> bool:
        """Whether compiling takes so long that it is done on a worker thread."""
        return self.node.weight > LARGE

    @property
    def always(self) -> bool:
        """Whether a bounded search finds that every flow matches."""
        if self._always is None:
            self._always = is_always_true(self.node)
        return self._always

    @property
    def constant(self) -> bool:
        """Whether the result for a flow never changes while the flow exists."""
        if self._constant is None:
            self._constant = _is_constant(self.node)
        return self._constant

    @property
    def predicate(self) -> Predicate:
        """A function that returns whether a flow matches."""
        if self._predicate is None:
            self._predicate = compile_predicate(self.node)
        return self._predicate

    @property
    def _required(self) -> Requirements:
        if self._requirements is None:
            self._requirements = requirements_of(self.node)
        return self._requirements

    @property
    def depends_on_features(self) -> bool:
        """Whether a kernel could filter a dump by more than the family and the mark."""
        return bool(self._required.values.keys() - {FAMILY.name, MARK.name})

    @property
    def may_be_exact(self) -> bool:
        """Whether a kernel could apply the whole match to a dump."""
        return self._required.sufficient

    def dump_filter(self, features: DumpFeatures = NO_FEATURES) -> DumpFilter:
        """Return what a kernel filters dumps by.

        :param features: the features of the kernel.
        """
        found = self._dump_filters.get(features)
        if found is None:
            found = compile_dump_filter(self.node, features, self._required)
            self._dump_filters[features] = found
        return found

    def programs(self, *, constant_only: bool = False) -> Iterator[EventFilter]:
        """Yield programs that the kernel can filter events by, from the longest to the shortest.

        :param constant_only: test only fields that never change while a flow exists.
        """
        for limit in _LIMITS:
            found = self.program(constant_only=constant_only, limit=limit)
            if found is None:
                return
            yield found

    def program(
        self, *, constant_only: bool = False, limit: int = MAX_INSTRUCTIONS
    ) -> EventFilter | None:
        """Return the most selective program; ``None`` if it would accept every event.

        :param constant_only: test only fields that never change while a flow exists.
        :param limit: how many instructions the program may have.
        """
        key = constant_only, limit
        if key not in self._programs:
            self._programs[key] = (
                None
                if self.always
                else self._compiler.compile(constant_only=constant_only, limit=limit)
            )
        return self._programs[key]

    async def compute(self, work: Callable[[], T]) -> T:
        """Return what a function computes from this match.

        For a large match, the function runs on a worker thread.

        :param work: a function that uses the other members of this object.
        """
        if not self.is_large:
            return work()
        try:
            return await run_in_thread(work, abandon=True)
        except ResourceExhausted:  # no thread can be started at present
            return work()


def _is_constant(node: Node) -> bool:
    """Return whether the fields of all conditions are constant."""
    if isinstance(node, AllOf | AnyOf):
        for part in node.parts:  # noqa: SIM110 - all() takes twice as long
            if not _is_constant(part):
                return False
        return True
    return _is_constant(node.part) if isinstance(node, Not) else node.field.constant
