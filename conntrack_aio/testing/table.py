"""Keep the entries of a namespace: find them by tuple, and walk them in the order of a dump."""

from __future__ import annotations

import zlib
from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Final

import attrs

from ..model.declare import UnknownAttribute
from ..model.enums import Status
from ..model.flow import Helper, SeqAdj, SynProxy
from ..model.protoinfo import DCCPInfo, SCTPInfo, TCPInfo
from ..model.tuples import Tuple
from .tuples import Zone

ORIG: Final = 0
REPLY: Final = 1


def _hashed_directions(entry: Entry) -> tuple[int, ...]:
    """Return the directions whose tuples an entry is hashed by.

    An entry with ``IPS_NAT_CLASH`` lost a race for its original tuple, and is hashed only by its
    reply tuple (``nf_ct_resolve_clash_harder``). User space knows that bit as UNTRACKED.
    """
    return (REPLY,) if entry.status & Status.UNTRACKED else (ORIG, REPLY)


@attrs.define
class Count:
    """The counters of one direction."""

    packets: int = 0
    bytes: int = 0


@attrs.define(eq=False)
class Entry:
    """An entry (``struct nf_conn``). A field that is ``None`` is an extension that it lacks."""

    orig: Tuple
    reply: Tuple
    zone: Zone
    family: int
    status: Status = attrs.field(factory=lambda: Status(0))
    expires: float = 0.0
    """When the entry expires, in seconds of the kernel's clock."""
    mark: int = 0
    protoinfo: TCPInfo | SCTPInfo | DCCPInfo | None = None
    """The protocol state, with all fields set; ``None`` for a protocol without state."""
    master: Entry | None = None
    """The master connection of a related entry."""
    counters: tuple[Count, Count] | None = None
    """The counters of the original and of the reply direction."""
    start_time: int | None = None
    """When the entry was created, in nanoseconds since 1970."""
    stop_time: int | None = None
    """When the entry ended, in nanoseconds since 1970."""
    has_helper_extension: bool = False
    """Whether the entry has the extension for a helper, even if its helper was detached."""
    helper: Helper | None = None
    labels: int | None = None
    seqadj: tuple[SeqAdj, SeqAdj] | None = None
    synproxy: SynProxy | None = None
    has_event_cache: bool = False
    """Whether the entry has the event cache, without which it never emits an event."""
    event_mask: int = -1
    """The events that the entry emits, as ``IPCT`` bits; a rule may select them."""
    missed_events: int = 0
    """Events that could not be delivered, and are sent with the next event of the entry."""
    deleted_by: int = 0
    """The port id of the program that deleted the entry, until the destroy event is delivered."""
    unknown: tuple[UnknownAttribute, ...] = ()
    """Attributes of a newer kernel, which dumps and replies have unchanged."""
    child_count: int = 0
    """How many entries have this one as their master; each holds a reference."""
    memory_slot: int = -1
    """The number of the memory slot, which :meth:`Table.insert` assigns."""
    id: int = 0
    bucket: int = 0
    """The number of the hash bucket."""

    def tuple_at(self, direction: int) -> Tuple:
        """Return the tuple of a direction."""
        return self.reply if direction else self.orig


class Table:
    """The entries of one network namespace.

    The entries are ordered by hash bucket, and the newest entry of a bucket comes first. This
    order looks random, and is the same in every run.
    """

    def __init__(self, *, hashed_ids: bool) -> None:
        self._hashed_ids = hashed_ids
        self._by_tuple: dict[Tuple, list[tuple[Entry, int]]] = {}
        self._buckets: dict[int, list[Entry]] = {}
        self._order: list[int] = []
        self._free: list[int] = []
        self._slot_count = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        """Yield all entries in order; the table may change during iteration."""
        for bucket in tuple(self._order):
            yield from tuple(self._buckets.get(bucket, ()))

    def find(self, tuple_: Tuple, zone: Zone) -> tuple[Entry, int] | None:
        """Find the entry that has a tuple in one of its directions, with the same zone there.

        :param tuple_: the tuple.
        :param zone: the zone of the request.
        :returns: the entry and the direction, or ``None``.
        """
        for entry, direction in self._by_tuple.get(tuple_, ()):
            if entry.zone.in_direction(direction) == zone.in_direction(direction):
                return entry, direction
        return None

    def is_taken(self, tuple_: Tuple, zone: Zone, ignored: Entry | None = None) -> bool:
        """Return whether an entry other than ``ignored`` has the tuple in this zone."""
        return any(
            entry is not ignored
            and entry.zone.in_direction(direction) == zone.in_direction(direction)
            for entry, direction in self._by_tuple.get(tuple_, ())
        )

    def insert(self, entry: Entry) -> None:
        """Insert an entry and assign its id.

        The id is computed from the tuple and from the address in memory. The slot of a deleted
        entry is used for the next one. So an entry that is deleted and created again at once has
        the same id.
        """
        if self._free:
            entry.memory_slot = self._free.pop()
        else:
            entry.memory_slot = self._slot_count
            self._slot_count += 1
        digest = zlib.crc32(repr((entry.orig, entry.zone.in_direction(ORIG))).encode())
        address = 0x80010000 + 320 * entry.memory_slot
        entry.id = zlib.crc32(digest.to_bytes(4, "big"), address) if self._hashed_ids else address
        entry.bucket = digest >> 14  # one of 262,144 buckets
        for direction in _hashed_directions(entry):
            self._by_tuple.setdefault(entry.tuple_at(direction), []).insert(0, (entry, direction))
        if entry.bucket not in self._buckets:
            insort(self._order, entry.bucket)
        self._buckets.setdefault(entry.bucket, []).insert(0, entry)
        self._count += 1

    def remove(self, entry: Entry) -> None:
        """Remove an entry."""
        for direction in _hashed_directions(entry):
            found = self._by_tuple[entry.tuple_at(direction)]
            found.remove((entry, direction))
            if not found:
                del self._by_tuple[entry.tuple_at(direction)]
        bucket = self._buckets[entry.bucket]
        bucket.remove(entry)
        if not bucket:
            del self._buckets[entry.bucket]
            del self._order[bisect_left(self._order, entry.bucket)]
        self._free.append(entry.memory_slot)
        self._count -= 1

    def next_bucket(self, number: int) -> tuple[int, list[Entry]] | None:
        """Return the first bucket from ``number`` on that has entries: its number and a copy."""
        index = bisect_left(self._order, number)
        if index == len(self._order):
            return None
        bucket = self._order[index]
        return bucket, list(self._buckets[bucket])
