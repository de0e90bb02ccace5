"""What is worked out of a match, once, and kept with it: its predicate, and what the kernel does.

Of a match of thousands of conditions that takes a good part of a second. So whatever can wait for
it has it done on a worker thread (:meth:`Compiled.ready`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from ..errors import ResourceExhausted
from ..netlink.bpf import MAX_INSTRUCTIONS
from ..netlink.threads import run_in_thread
from .always import is_always
from .dump import DumpFilter, FilterFeatures, Needs, compile_dump, needs_of
from .fields import FAMILY, MARK
from .nodes import All, Any, Node, Not
from .predicate import Predicate, compile_predicate
from .program import EventFilter, ProgramCompiler

LARGE: Final = 256
"""A match of more ranges, networks and names than this is worked out on a worker thread."""

_LIMITS: Final = (
    MAX_INSTRUCTIONS,
    MAX_INSTRUCTIONS // 2,
    MAX_INSTRUCTIONS // 4,
    MAX_INSTRUCTIONS // 8,
)
"""Instructions of the programs that are tried: ``net.core.optmem_max`` is 20 KiB on older kernels,
which is room for some 2,500."""

_Known = tuple[bool, ...] | None
T = TypeVar("T")


class Compiled:
    """What is known of one match. Two threads at once may work out the same, with one result."""

    def __init__(self, node: Node) -> None:
        # Not by cached_property, which before Python 3.12 has one lock for all objects: a thread
        # that works out a large match would hold up the event loop, that needs a small one.
        self.node = node
        self._always: bool | None = None
        self._constant: bool | None = None
        self._predicate: Predicate | None = None
        self._needed: Needs | None = None
        self._compiler = ProgramCompiler(node)
        self._dumps: dict[_Known, DumpFilter] = {}
        """By the features of the kernel: of each set of them one, 17 at most."""
        self._programs: dict[tuple[bool, int], EventFilter | None] = {}
        """By what they are asked for: 8 at most."""

    @property
    def is_large(self) -> bool:
        return self.node.weight > LARGE

    @property
    def always(self) -> bool:
        """Whether every flow matches, as far as a bounded search finds out."""
        if self._always is None:
            self._always = is_always(self.node)
        return self._always

    @property
    def constant(self) -> bool:
        """Whether a flow that matches always will, and one that does not never will."""
        if self._constant is None:
            self._constant = _is_constant(self.node)
        return self._constant

    @property
    def predicate(self) -> Predicate:
        """A function that is true of the flows that match."""
        if self._predicate is None:
            self._predicate = compile_predicate(self.node)
        return self._predicate

    @property
    def _needs(self) -> Needs:
        if self._needed is None:
            self._needed = needs_of(self.node)
        return self._needed

    @property
    def wants_features(self) -> bool:
        """Whether a dump can be selected by more, if the kernel can do it."""
        return bool(self._needs.values.keys() - {FAMILY.name, MARK.name})

    @property
    def may_be_exact(self) -> bool:
        """Whether a kernel may do all of it in a dump."""
        return self._needs.enough

    def dump(self, features: FilterFeatures | None = None) -> DumpFilter:
        """What a kernel that has these features selects a dump by; without them, any kernel."""
        known: _Known = None
        if features is not None:
            known = (
                *(features.tuple_filter, features.reply_filter),
                *(features.status_filter, features.zone_filter),
            )
        found = self._dumps.get(known)
        if found is None:
            found = self._dumps[known] = compile_dump(self.node, features, self._needs)
        return found

    def programs(self, *, constant: bool = False) -> Iterator[EventFilter]:
        """The programs that events may be filtered by, the longest first.

        :param constant: by what never changes while a flow lives, alone.
        """
        for limit in _LIMITS:
            found = self.program(constant=constant, limit=limit)
            if found is None:
                return
            yield found

    def program(
        self, *, constant: bool = False, limit: int = MAX_INSTRUCTIONS
    ) -> EventFilter | None:
        """The narrowest program of at most ``limit`` instructions; ``None``, if it would take
        all."""
        key = constant, limit
        if key not in self._programs:
            self._programs[key] = (
                None if self.always else self._compiler.compile(constant=constant, limit=limit)
            )
        return self._programs[key]

    async def ready(self, work: Callable[[], T]) -> T:
        """Return what ``work`` does with this: of a large match, done on a worker thread."""
        if not self.is_large:
            return work()
        try:
            return await run_in_thread(work, abandon=True)
        except ResourceExhausted:  # no thread can be started just now
            return work()


def _is_constant(node: Node) -> bool:
    """Whether all fields of its conditions are."""
    if isinstance(node, All | Any):
        for part in node.parts:  # noqa: SIM110 - all() takes twice as long
            if not _is_constant(part):
                return False
        return True
    return _is_constant(node.part) if isinstance(node, Not) else node.field.constant
