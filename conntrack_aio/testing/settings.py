"""Provide the conntrack settings of a kernel release, and access to them as in ``/proc/sys``."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, MutableMapping
from typing import Final

from ..model.settings import SETTINGS, sysctl_of
from . import releases
from .releases import Release

_PREFIX: Final = "net.netfilter."
_COUNT: Final = "nf_conntrack_count"
_RMEM_MAX: Final = "net.core.rmem_max"
_OPTMEM_MAX: Final = "net.core.optmem_max"
_DEFAULTS: Final = {
    "events": 2,
    "acct": 0,
    "timestamp": 0,
    "max": 262144,
    "buckets": 262144,
    "expect_max": 4096,
    "checksum": 1,
    "log_invalid": 0,
    "helper": 0,
    "tcp_loose": 1,
    "tcp_be_liberal": 0,
    "tcp_ignore_invalid_rst": 0,
    "tcp_max_retrans": 3,
    "generic_timeout": 600,
    "tcp_timeout_syn_sent": 120,
    "tcp_timeout_syn_recv": 60,
    "tcp_timeout_established": 432000,
    "tcp_timeout_fin_wait": 120,
    "tcp_timeout_close_wait": 60,
    "tcp_timeout_last_ack": 30,
    "tcp_timeout_time_wait": 120,
    "tcp_timeout_close": 10,
    "tcp_timeout_max_retrans": 300,
    "tcp_timeout_unacknowledged": 300,
    "udp_timeout": 30,
    "udp_timeout_stream": 120,
    "icmp_timeout": 30,
    "icmpv6_timeout": 30,
    "gre_timeout": 30,
    "gre_timeout_stream": 180,
    "sctp_timeout_closed": 10,
    "sctp_timeout_cookie_wait": 3,
    "sctp_timeout_cookie_echoed": 3,
    "sctp_timeout_established": 210,
    "sctp_timeout_shutdown_sent": 3,
    "sctp_timeout_shutdown_recd": 3,
    "sctp_timeout_shutdown_ack_sent": 3,
    "sctp_timeout_heartbeat_sent": 30,
    "sctp_timeout_heartbeat_acked": 210,
    "dccp_loose": 1,
    "dccp_timeout_request": 240,
    "dccp_timeout_respond": 480,
    "dccp_timeout_partopen": 480,
    "dccp_timeout_open": 43200,
    "dccp_timeout_closereq": 64,
    "dccp_timeout_closing": 64,
    "dccp_timeout_timewait": 240,
    "frag6_timeout": 60,
    "frag6_low_thresh": 3145728,
    "frag6_high_thresh": 4194304,
}
"""The default values, by the names of :data:`SETTINGS`, which lists the releases with each."""


def default_sysctls(release: Release) -> dict[str, int]:
    """Return the settings of a kernel of this release, by name.

    The settings of the flow table are missing: the fake kernel behaves as if that module were not
    loaded.
    """
    settings = {
        sysctl_of(name).removeprefix(_PREFIX): value
        for name, value in _DEFAULTS.items()
        if _exists(name, release)
    }
    if not release.has(releases.EVENTS_AUTODETECT):
        settings["nf_conntrack_events"] = 1
    settings[_OPTMEM_MAX] = 131072 if release.has(releases.LARGE_OPTMEM_MAX) else 20480
    settings[_RMEM_MAX] = 4194304 if release.has(releases.LARGE_RMEM_MAX) else 212992
    return settings


def _exists(name: str, release: Release) -> bool:
    declared = SETTINGS[name]
    if declared.since and release.series < Release.parse(declared.since).series:
        return False
    return not declared.until or release.series <= Release.parse(declared.until).series


class FakeSysctlTree:
    """The settings by their full names: a :class:`~conntrack_aio.proc_sys.SysctlTree`."""

    def __init__(
        self, sysctls: MutableMapping[str, int], count: Callable[[], int], release: Release
    ) -> None:
        self._sysctls = sysctls
        self._count = count
        self._max_event_mode = 2 if release.has(releases.EVENTS_AUTODETECT) else 1

    def read(self, name: str, /) -> str:
        """Return the value of a setting.

        :raises FileNotFoundError: when the kernel does not have the setting.
        """
        key = name.removeprefix(_PREFIX)
        if key == _COUNT:
            return str(self._count())
        if key not in self._sysctls:
            raise _error(errno.ENOENT, name)
        return str(int(self._sysctls[key]))

    def write(self, name: str, value: str | int, /) -> None:
        """Change a setting.

        :raises FileNotFoundError: when the kernel does not have the setting.
        :raises PermissionError: when it is the number of entries, which is read-only.
        :raises OSError: when the kernel refuses the value (EINVAL).
        """
        self.check_writable(name)
        key = name.removeprefix(_PREFIX)
        try:
            number = int(value)
        except ValueError:
            raise _error(errno.EINVAL, name) from None
        if key == "nf_conntrack_events" and not 0 <= number <= self._max_event_mode:
            raise _error(errno.EINVAL, name)
        self._sysctls[key] = number

    def check_writable(self, name: str, /) -> None:
        """Check that a setting can be changed.

        :raises FileNotFoundError: when the kernel does not have the setting.
        :raises PermissionError: when it is the number of entries, which is read-only.
        """
        self.read(name)
        if name.removeprefix(_PREFIX) == _COUNT:
            raise _error(errno.EACCES, name)


def _error(code: int, name: str) -> OSError:
    return OSError(code, os.strerror(code), name)
