"""Declare which behaviors of the kernel depend on its release.

- All differences between releases stand in this one table.
- Versions are those of the mainline kernel.
- A fix that stable series took over lists the first patch level of each series.
- A release without a patch level, such as ``"6.12"``, means the newest patch level of its series.
- So does the release of a distribution that numbers its own builds: Debian's
  ``"6.1.0-56-amd64"`` is 6.1.192.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import attrs

OLDEST: Final = (4, 19)
"""The oldest kernel series that the fake kernel can imitate."""

_NEWEST_PATCH = 1 << 16
_RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.0-(?=\d).*|\.(\d+))?(?:[-+].*)?")


@attrs.frozen
class Feature:
    """A behavior that kernels have from one release on, and possibly only until another."""

    since: tuple[int, int]
    """The first mainline version that behaves so."""
    until: tuple[int, int] | None = None
    """The first mainline version that no longer behaves so."""
    stable: Mapping[tuple[int, int], int] = MappingProxyType({})
    """The first patch level of each older stable series that took the change over."""


class Release(NamedTuple):
    """The version of a kernel."""

    major: int
    minor: int
    patch: int = _NEWEST_PATCH

    @classmethod
    def parse(cls, text: str) -> Release:
        """Parse a kernel version.

        :param text: ``"6.18"``, ``"5.15.24"``, or what ``uname -r`` prints.

        :raises TypeError: when ``text`` is not a string.
        :raises ValueError: when ``text`` is not a kernel version, or is older than
            :data:`OLDEST`.
        """
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a kernel version must be a string such as '6.18'; got {text!r}")
        parsed = _RELEASE.fullmatch(text)
        if parsed is None:
            raise ValueError(
                f"{text!r} is not a kernel version; expected one such as '6.18' or '5.15.24'"
            )
        release = cls(*(int(part) for part in parsed.groups() if part is not None))
        if release.series < OLDEST:
            raise ValueError(
                f"Linux {text} is not supported; the oldest kernel that can be imitated is "
                f"{OLDEST[0]}.{OLDEST[1]}"
            )
        return release

    @property
    def series(self) -> tuple[int, int]:
        """The version without its patch level."""
        return (self.major, self.minor)

    def has(self, feature: Feature) -> bool:
        """Return whether this kernel has a feature."""
        if feature.until is not None and self.series >= feature.until:
            return False
        return self.series >= feature.since or self.patch >= feature.stable.get(
            self.series, _NEWEST_PATCH + 1
        )


# -- the table --------------------------------------------------------------------------------

HASHED_IDS: Final = Feature((5, 2))
"""``CTA_ID`` is a hash of the entry. Before, it is the low half of the entry's address."""

FAMILY_FLUSH: Final = Feature((5, 2))
"""A flush is limited to an address family if ``nfgenmsg.version`` is not 0."""

MARK_MASK_ON_UPDATE: Final = Feature((5, 3))
"""An update honors ``CTA_MARK_MASK``."""

OFFLOADED_WITHOUT_STATE: Final = Feature((5, 4))
"""Messages about offloaded entries have neither the timeout nor the protocol state."""

DUMP_FILTER: Final = Feature((5, 8))
"""The kernel knows ``CTA_FILTER``, mark filters without a mask, and ``NLM_F_DUMP_FILTERED``."""

TUPLE_FAMILY_CHECKED: Final = Feature((5, 9), stable={(5, 4): 0})
"""The kernel refuses a tuple whose family is neither IPv4 nor IPv6."""

CLASH_RESOLVE_COUNTED: Final = Feature((5, 10))
"""``GET_STATS_CPU`` reports ``clash_resolve``."""

IGNORE_COUNTED: Final = Feature(OLDEST, until=(5, 10))
"""``GET_STATS_CPU`` reports ``ignore``."""

DESTROY_WITH_STATE: Final = Feature((5, 11))
"""A destroy event has the protocol state, and the timeout if it had not run out."""

STATUS_FILTER: Final = Feature((5, 15))
"""Dumps and flushes filter by ``CTA_STATUS``."""

REPLY_FILTER: Final = Feature((5, 15))
"""``CTA_FILTER`` parses the reply tuple by ``CTA_FILTER_REPLY_FLAGS``.

Before, the kernel parses it by the flags of the original tuple.
"""

CHAIN_TOOLONG_COUNTED: Final = Feature((5, 15))
"""``GET_STATS_CPU`` reports ``chain_toolong``."""

HELPER_BIT_ON_CREATE: Final = Feature((5, 15))
"""A new entry with a helper has the status bit ``IPS_HELPER``."""

EVENTS_AUTODETECT: Final = Feature((5, 19))
"""``nf_conntrack_events`` is 2 by default: an entry emits events if some socket was subscribed to
conntrack events when the entry was created."""

FIXED_TIMEOUT_KEPT: Final = Feature((6, 1))
"""The kernel refuses to change the timeout of an entry with ``IPS_FIXED_TIMEOUT``."""

MACHINE_WIDE_AUTODETECT: Final = Feature((6, 6))
"""A subscriber in any network namespace of the machine counts for :data:`EVENTS_AUTODETECT`."""

OFFLOADED_DELETED: Final = Feature((6, 6), stable={(6, 1): 176})
"""Offloaded entries can be deleted. Before, a delete fails with EBUSY, and a flush skips them.

In 6.1 the change is known to be in 6.1.176, which may not be the first patch level with it.
"""

ZONE_FILTER: Final = Feature((6, 8))
"""Dumps and flushes filter by ``CTA_ZONE``."""

FILTERED_FLUSH: Final = Feature((6, 12))
"""A delete with ``CTA_FILTER`` is a flush of the entries that the filter selects."""

EVENT_TIMESTAMP: Final = Feature((6, 14))
"""Events have ``CTA_TIMESTAMP_EVENT``."""

DCCP_TRACKED: Final = Feature(OLDEST, until=(6, 17))
"""The ports of DCCP are part of a tuple."""

UDPLITE_TRACKED: Final = Feature(OLDEST, until=(7, 1))
"""The ports of UDP-Lite are part of a tuple."""

STRICT_RANGES: Final = Feature((7, 1), stable={(6, 1): 176, (6, 12): 81, (6, 18): 24})
"""The attribute policy refuses values out of range: a TCP or SCTP state with ERANGE, the flags of
a filter with EINVAL.

In 6.1 the change is known to be in 6.1.176, which may not be the first patch level with it.
"""

HELPER_LIMITS_EACH: Final = Feature((7, 2), stable={(6, 1): 192})
"""An update of a user-space helper gives each of its policies that policy's own limits.

Before, all policies get the limits of the first. Observed: changed in 7.2.13 and 6.1.192,
unchanged in 6.1.176 and 6.12.95.
"""

DONE_HAS_FILTERED_FLAG: Final = Feature((7, 2), stable={(6, 1): 192})
"""The NLMSG_DONE of a filtered dump has ``NLM_F_DUMP_FILTERED``, as the entries of the dump do.

Observed: changed in 7.2.13 and 6.1.192, unchanged in 6.1.176, 6.12.95 and 6.18.44.
"""

DEFAULTS_WITHOUT_FAMILY: Final = Feature((6, 9))
"""Setting the default timeouts of a protocol does not need ``CTA_TIMEOUT_L3PROTO``."""

POLICY_DELETED_IN_USE: Final = Feature((7, 1), stable={(6, 1): 192})
"""A timeout policy that a rule refers to can be deleted. Before, a delete fails with EBUSY.

In 6.1 the change is known to be in 6.1.192, which may not be the first patch level with it.
"""

LARGE_OPTMEM_MAX: Final = Feature((6, 8))
"""``net.core.optmem_max`` is 128 KiB by default. Before, it is 20 KiB."""

LARGE_RMEM_MAX: Final = Feature((6, 16))
"""``net.core.rmem_max`` is 4 MiB by default. Before, it is 208 KiB."""


def last_attribute(release: Release) -> int:
    """Return ``CTA_MAX`` of this kernel, which ignores attributes with higher numbers."""
    for feature, number in ((EVENT_TIMESTAMP, 27), (STATUS_FILTER, 26), (DUMP_FILTER, 25)):
        if release.has(feature):
            return number
    return 24
