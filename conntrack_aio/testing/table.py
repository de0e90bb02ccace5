"""The table: entries, found by either of their tuples, in the order in which a dump walks them."""

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


def _hashed(entry: Entry) -> tuple[int, ...]:
    """The directions in which an entry is found.

    One with ``IPS_NAT_CLASH``, which user space knows as UNTRACKED, has lost a race for its
    original tuple (``nf_ct_resolve_clash_harder``).
    """
    return (REPLY,) if entry.status & Status.UNTRACKED else (ORIG, REPLY)


@attrs.define
class Count:
    """The accounting of one direction."""

    packets: int = 0
    bytes: int = 0


@attrs.define(eq=False)
class Entry:
    """An entry (``struct nf_conn``). What is ``None`` is an extension that it lacks."""

    orig: Tuple
    reply: Tuple
    zone: Zone
    family: int
    status: Status = attrs.field(factory=lambda: Status(0))
    expires: float = 0.0
    """When it ends, by the kernel's clock."""
    mark: int = 0
    protoinfo: TCPInfo | SCTPInfo | DCCPInfo | None = None
    """Complete for a protocol that has one, ``None`` for the others."""
    master: Entry | None = None
    counters: tuple[Count, Count] | None = None
    started: int | None = None
    stopped: int | None = None
    helped: bool = False
    """Whether it has the extension for a helper, which may be detached."""
    helper: Helper | None = None
    labels: int | None = None
    seqadj: tuple[SeqAdj, SeqAdj] | None = None
    synproxy: SynProxy | None = None
    emits: bool = False
    """Whether it has the event cache, without which it never emits an event."""
    mask: int = -1
    """The events (``IPCT``) that it emits, if it emits any: a rule may choose them."""
    missed: int = 0
    """Events that could not be delivered and go with its next one."""
    writer: int = 0
    """The port of the program that deleted it, while that event is undelivered."""
    unknown: tuple[UnknownAttribute, ...] = ()
    """Attributes of a newer kernel, told in dumps and answers as they are."""
    children: int = 0
    """Entries whose master it is: each holds a reference."""
    slot: int = -1
    id: int = 0
    bucket: int = 0
    dead: bool = False

    def tuple_at(self, direction: int) -> Tuple:
        return self.reply if direction else self.orig


class Table:
    """The entries of one namespace.

    The order is that of hash buckets, the newest of a bucket first: it looks random, and is the
    same at every run.
    """

    def __init__(self, *, hashed_ids: bool) -> None:
        self._hashed_ids = hashed_ids
        self._found: dict[Tuple, list[tuple[Entry, int]]] = {}
        self._buckets: dict[int, list[Entry]] = {}
        self._order: list[int] = []
        self._free: list[int] = []
        self._slots = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        """All of them, in order; the table may change meanwhile."""
        for bucket in tuple(self._order):
            yield from tuple(self._buckets.get(bucket, ()))

    def find(self, tuple_: Tuple, zone: Zone) -> tuple[Entry, int] | None:
        """The entry that has the tuple in one of its directions, and in which.

        The zones must agree in that direction.
        """
        for entry, direction in self._found.get(tuple_, ()):
            if entry.zone.at(direction) == zone.at(direction):
                return entry, direction
        return None

    def taken(self, tuple_: Tuple, zone: Zone, but: Entry | None = None) -> bool:
        """Whether another entry has the tuple."""
        return any(
            entry is not but and entry.zone.at(direction) == zone.at(direction)
            for entry, direction in self._found.get(tuple_, ())
        )

    def insert(self, entry: Entry) -> None:
        """Add one, and give it its id.

        The id is made of the tuple and of the place in memory, which is given to the next when one
        is gone: made again at once, an entry has the same id.
        """
        if self._free:
            entry.slot = self._free.pop()
        else:
            entry.slot = self._slots
            self._slots += 1
        digest = zlib.crc32(repr((entry.orig, entry.zone.at(ORIG))).encode())
        place = 0x80010000 + 320 * entry.slot
        entry.id = zlib.crc32(digest.to_bytes(4, "big"), place) if self._hashed_ids else place
        entry.bucket = digest >> 14  # 262,144 of them
        for direction in _hashed(entry):
            self._found.setdefault(entry.tuple_at(direction), []).insert(0, (entry, direction))
        if entry.bucket not in self._buckets:
            insort(self._order, entry.bucket)
        self._buckets.setdefault(entry.bucket, []).insert(0, entry)
        self._count += 1

    def remove(self, entry: Entry) -> None:
        """Take one out."""
        entry.dead = True
        for direction in _hashed(entry):
            found = self._found[entry.tuple_at(direction)]
            found.remove((entry, direction))
            if not found:
                del self._found[entry.tuple_at(direction)]
        bucket = self._buckets[entry.bucket]
        bucket.remove(entry)
        if not bucket:
            del self._buckets[entry.bucket]
            del self._order[bisect_left(self._order, entry.bucket)]
        self._free.append(entry.slot)
        self._count -= 1

    def bucket_from(self, number: int) -> tuple[int, list[Entry]] | None:
        """The first bucket with entries from ``number`` on, and a copy of it."""
        place = bisect_left(self._order, number)
        if place == len(self._order):
            return None
        bucket = self._order[place]
        return bucket, list(self._buckets[bucket])
