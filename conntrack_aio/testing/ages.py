"""What came when: in this one table, what a kernel of one age does otherwise than one of another.

The versions are those of the mainline. A fix that stable series took over has the first patch
level of each; a release without a patch level (``"6.12"``) stands for the newest of its series, and
so does one of a distribution that numbers its own builds (``"6.1.0-56-amd64"`` is 6.1.192).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import attrs

OLDEST: Final = (4, 19)
"""The oldest kernel that can be imitated."""

_NEWEST_PATCH = 1 << 16
_RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.0-(?=\d).*|\.(\d+))?(?:[-+].*)?")


@attrs.frozen
class Feature:
    """Something that kernels do from one version on, and perhaps until another."""

    since: tuple[int, int]
    until: tuple[int, int] | None = None
    """The first version that no longer does it."""
    stable: Mapping[tuple[int, int], int] = MappingProxyType({})
    """The older series that took it over, and from which patch level on."""


class Release(NamedTuple):
    """A kernel's version."""

    major: int
    minor: int
    patch: int = _NEWEST_PATCH

    @classmethod
    def parse(cls, text: str) -> Release:
        """``"6.18"``, ``"5.15.24"``, or what ``uname -r`` prints.

        Raises :exc:`ValueError` for a text that is none, or older than :data:`OLDEST`.
        """
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"the version of a kernel is text, like '6.18', not {text!r}")
        found = _RELEASE.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not the version of a kernel, like '6.18' or '5.15.24'")
        release = cls(*(int(part) for part in found.groups() if part is not None))
        if release.series < OLDEST:
            raise ValueError(f"Linux {text} is older than {OLDEST[0]}.{OLDEST[1]}")
        return release

    @property
    def series(self) -> tuple[int, int]:
        return (self.major, self.minor)

    def has(self, feature: Feature) -> bool:
        """Whether this kernel does it."""
        if feature.until is not None and self.series >= feature.until:
            return False
        return self.series >= feature.since or self.patch >= feature.stable.get(
            self.series, _NEWEST_PATCH + 1
        )


# -- the table --------------------------------------------------------------------------------

HASHED_IDS: Final = Feature((5, 2))
"""``CTA_ID`` is a hash of the entry; before, the low half of its address."""

FAMILY_FLUSH: Final = Feature((5, 2))
"""A flush is limited to a family, if ``nfgenmsg.version`` is not 0."""

MARK_MASK_ON_UPDATE: Final = Feature((5, 3))
"""An update takes ``CTA_MARK_MASK`` into account."""

OFFLOADED_WITHOUT_STATE: Final = Feature((5, 4))
"""Offloaded entries are told without timeout and protocol state."""

DUMP_FILTER: Final = Feature((5, 8))
"""``CTA_FILTER``; a mark filter without a mask; ``NLM_F_DUMP_FILTERED``."""

TUPLE_FAMILY_CHECKED: Final = Feature((5, 9), stable={(5, 4): 0})
"""A tuple of another family than IPv4 and IPv6 is refused."""

CLASH_RESOLVE_COUNTED: Final = Feature((5, 10))
IGNORE_COUNTED: Final = Feature(OLDEST, until=(5, 10))
"""What GET_STATS_CPU tells."""

DESTROY_WITH_STATE: Final = Feature((5, 11))
"""A destroy event has the protocol's state, and a timeout that had not run out."""

STATUS_FILTER: Final = Feature((5, 15))
"""Dumps and flushes filter by ``CTA_STATUS``."""

REPLY_FILTER: Final = Feature((5, 15))
"""``CTA_FILTER`` reads the reply tuple by the reply's own flags."""

CHAIN_TOOLONG_COUNTED: Final = Feature((5, 15))

HELPER_BIT_ON_CREATE: Final = Feature((5, 15))
"""A new entry with a helper has ``IPS_HELPER``."""

EVENTS_AUTODETECT: Final = Feature((5, 19))
"""``nf_conntrack_events`` is 2 by default: an entry emits events if somebody listened when it was
made."""

ONLY_UNDELIVERED_DYING: Final = Feature((5, 19))
"""GET_DYING has the entries whose destroy event could not be delivered, GET_UNCONFIRMED none."""

FIXED_TIMEOUT_KEPT: Final = Feature((6, 1))
"""The timeout of an entry with ``IPS_FIXED_TIMEOUT`` can't be changed."""

MACHINE_WIDE_AUTODETECT: Final = Feature((6, 6))
"""A listener in any namespace of the machine counts for the autodetection."""

OFFLOADED_DELETED: Final = Feature((6, 6), stable={(6, 1): 176})
"""Offloaded entries can be deleted; before, EBUSY, and a flush left them. (Of 6.1 the patch
level is one that does so, and may not be the first.)"""

ZONE_FILTER: Final = Feature((6, 8))
"""Dumps and flushes filter by ``CTA_ZONE``."""

FILTERED_FLUSH: Final = Feature((6, 12))
"""A delete with ``CTA_FILTER`` is a flush of what the filter selects."""

EVENT_TIMESTAMP: Final = Feature((6, 14))
"""``CTA_TIMESTAMP_EVENT``."""

DCCP_TRACKED: Final = Feature(OLDEST, until=(6, 17))
UDPLITE_TRACKED: Final = Feature(OLDEST, until=(7, 1))
"""Protocols whose ports are part of a tuple."""

STRICT_RANGES: Final = Feature((7, 1), stable={(6, 1): 176, (6, 12): 81, (6, 18): 24})
"""Values out of range are refused by the policy: ERANGE for a TCP or SCTP state, EINVAL for the
flags of a filter. (Of 6.1 the patch level is one that has it, and may not be the first.)"""

HELPER_LIMITS_EACH: Final = Feature((7, 2), stable={(6, 1): 192})
"""An update of a user-space helper's policies gives each its own limits; before, all of them those
of the first. (Seen in 7.2.13 and 6.1.192, and not in 6.1.176 and 6.12.95.)"""

DONE_TELLS_FILTER: Final = Feature((7, 2), stable={(6, 1): 192})
"""The end of a filtered dump has ``NLM_F_DUMP_FILTERED``, as its entries have. (Seen in 7.2.13 and
6.1.192, and not in 6.1.176, 6.12.95 and 6.18.44.)"""

DEFAULTS_WITHOUT_FAMILY: Final = Feature((6, 9))
"""The default timeouts of a protocol are set without the number of a family."""

POLICY_DELETED_IN_USE: Final = Feature((7, 1), stable={(6, 1): 192})
"""A timeout policy that a rule has can be deleted; before, EBUSY. (Of 6.1 the patch level is one
that does so, and may not be the first.)"""

LARGE_OPTMEM_MAX: Final = Feature((6, 8))
"""``net.core.optmem_max`` is 128 KiB by default; before, 20 KiB."""

LARGE_RMEM_MAX: Final = Feature((6, 16))
"""``net.core.rmem_max`` is 4 MiB by default; before, 208 KiB."""


def last_attribute(release: Release) -> int:
    """``CTA_MAX``: what is beyond it, this kernel does not see."""
    for feature, number in ((EVENT_TIMESTAMP, 27), (STATUS_FILTER, 26), (DUMP_FILTER, 25)):
        if release.has(feature):
            return number
    return 24
