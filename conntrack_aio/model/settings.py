"""The settings of connection tracking, ``net.netfilter.nf_conntrack_*``, each declared once.

What a setting is called, holds and hides is said beside the field of its value, as an attribute is
beside the field that holds it. From ``net/netfilter/nf_conntrack_standalone.c``, for the fragments
``net/ipv6/netfilter/nf_conntrack_reasm.c``, and Documentation/networking/nf_conntrack-sysctl.rst.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Generic, TypeVar, cast, dataclass_transform

import attrs

from ..errors import DecodeError
from ..plain import as_int
from ..proc_sys import CONNTRACK
from .enums import NamedNumber
from .values import describe_value

T = TypeVar("T", bound=int)
T_co = TypeVar("T_co", bound=int, covariant=True)
C = TypeVar("C")

FLOWTABLE = "net.netfilter.nf_"
"""What the names of the flow table's settings begin with, before ``flowtable``."""


class EventMode(NamedNumber):
    """Which flows emit events. Decided when a flow is made, for all its life."""

    OFF = 0
    """None does."""
    ALWAYS = 1
    """All do."""
    AUTO = 2
    """Those that are made while some program listens, on the whole machine (in one and the same
    network namespace on Linux 5.19 to 6.5). The default since 5.19; older kernels do not have
    it, and ALWAYS is theirs."""


# Declaring a setting


@attrs.frozen
class Form(Generic[T_co]):
    """What a setting holds: the type of its value, and what its number counts."""

    type: type[T_co]
    unit: str = ""


SWITCH: Final = Form(bool)
MODE: Final = Form(EventMode)
NUMBER: Final = Form(int)
SECONDS: Final = Form(int, "seconds")
BYTES: Final = Form(int, "bytes")

_LARGEST: Final = (1 << 64) - 1
"""No setting of the kernel holds more."""

_NOTHING: Final[Mapping[int, str]] = MappingProxyType({})


@attrs.frozen
class Setting:
    """What is declared of a setting."""

    form: Form[int]
    prefix: str
    machine: bool
    """Whether it is one for the whole machine, which other namespaces can but read."""
    since: str
    """The kernel that had it first, where that is later than 4.19."""
    until: str
    """The last kernel that had it."""
    hides: Mapping[int, str]
    """By value: what a user then does not see."""

    def read(self, text: str) -> int:
        """The value that a file holds. Raises :exc:`DecodeError`."""
        try:
            number = int(text)
        except ValueError:
            raise DecodeError(f"{text!r} is not a number") from None
        try:
            return self.form.type(number)
        except ValueError:
            return number  # a mode that a newer kernel has

    def check(self, name: str, value: object) -> int:
        """Return the plain value, if it can be one.

        An integer may be of any kind but ``bool``. A switch takes ``bool`` alone, and a mode its
        members.

        Raises :exc:`TypeError` or :exc:`ValueError`.
        """
        expected = self.form.type
        fits = type(value) is not bool if expected is int else type(value) is expected
        try:
            number = as_int(value) if fits else None
        except TypeError:
            number = None
        if number is None:
            raise TypeError(f"{name} takes {_words(expected)}, not {describe_value(value)}")
        # Of a timeout the kernel takes -1, and means 136 years less a second.
        if number < 0:
            raise ValueError(f"{name} is not negative: {describe_value(number)}")
        if number > _LARGEST:
            raise ValueError(f"{name} is at most {_LARGEST}, not {describe_value(number)}")
        return number


def _words(expected: type[int]) -> str:
    if expected is bool:
        return "True or False"
    return "an int" if expected is int else f"a member of {expected.__name__}"


SETTING: Final = "conntrack_aio.setting"


def setting(
    form: Form[T],
    *,
    default: None,
    prefix: str = CONNTRACK,
    machine: bool = False,
    since: str = "",
    until: str = "",
    hides: Mapping[int, str] = _NOTHING,
) -> T | None:
    """A field with a setting's value; ``None`` where the kernel has none."""
    declared = Setting(form, prefix, machine, since, until, hides)
    field: T | None = attrs.field(default=default, metadata={SETTING: declared})
    return field


@dataclass_transform(kw_only_default=True, field_specifiers=(setting,))
def _settings(cls: type[C]) -> type[C]:
    return attrs.define(cls, kw_only=True)


# What they hide


@attrs.frozen
class BlindSpot:
    """Something that a user does not see in a namespace, and what hides it.

    As text it is both: ``"flows have no counters here: net.netfilter.nf_conntrack_acct is 0"``.
    """

    setting: str
    """The field of :class:`ConntrackSysctls` that tells it."""
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what} here: {self.why}"


@_settings
class SettableSysctls:
    """The settings that can be changed."""

    events: EventMode | None = setting(
        MODE,
        default=None,
        hides={
            EventMode.OFF: "no flow emits events",
            EventMode.AUTO: "flows that were made while nobody listened emit no events",
        },
    )
    """Which flows emit events."""
    acct: bool | None = setting(SWITCH, default=None, hides={0: "flows have no counters"})
    """Whether the packets and bytes of flows are counted."""
    timestamp: bool | None = setting(
        SWITCH, default=None, hides={0: "flows and their events have no timestamps"}
    )
    """Whether it is noted when flows begin and end."""
    max: int | None = setting(NUMBER, default=None, machine=True)
    """How many entries each namespace may have."""
    buckets: int | None = setting(NUMBER, default=None, machine=True)
    """The size of the hash table, which all namespaces share. Setting it rebuilds the table."""
    expect_max: int | None = setting(NUMBER, default=None, machine=True)
    """How many expectations there may be."""
    checksum: bool | None = setting(SWITCH, default=None)
    """Whether a received packet with a wrong checksum is INVALID, and not tracked."""
    log_invalid: int | None = setting(NUMBER, default=None)
    """The protocol whose INVALID packets are logged: 0 none, 255 all of them."""
    helper: bool | None = setting(SWITCH, default=None, until="6.0")
    """Whether helpers are given to flows by their ports alone, without a rule that says so."""
    tcp_loose: bool | None = setting(SWITCH, default=None)
    """Whether a TCP connection may be picked up halfway."""
    tcp_be_liberal: bool | None = setting(SWITCH, default=None)
    """Whether TCP packets outside of the window pass for valid, but for resets."""
    tcp_ignore_invalid_rst: bool | None = setting(SWITCH, default=None, since="5.14")
    """Whether resets outside of the window pass for valid too."""
    tcp_max_retrans: int | None = setting(NUMBER, default=None)
    """After so many packets again without an answer ``tcp_timeout_max_retrans`` holds."""

    generic_timeout: int | None = setting(SECONDS, default=None)
    """Of protocols that the kernel has no tracker for."""
    tcp_timeout_syn_sent: int | None = setting(SECONDS, default=None)
    tcp_timeout_syn_recv: int | None = setting(SECONDS, default=None)
    tcp_timeout_established: int | None = setting(SECONDS, default=None)
    tcp_timeout_fin_wait: int | None = setting(SECONDS, default=None)
    tcp_timeout_close_wait: int | None = setting(SECONDS, default=None)
    tcp_timeout_last_ack: int | None = setting(SECONDS, default=None)
    tcp_timeout_time_wait: int | None = setting(SECONDS, default=None)
    tcp_timeout_close: int | None = setting(SECONDS, default=None)
    tcp_timeout_max_retrans: int | None = setting(SECONDS, default=None)
    tcp_timeout_unacknowledged: int | None = setting(SECONDS, default=None)
    udp_timeout: int | None = setting(SECONDS, default=None)
    udp_timeout_stream: int | None = setting(SECONDS, default=None)
    """Of a flow that was answered, and goes on."""
    icmp_timeout: int | None = setting(SECONDS, default=None)
    icmpv6_timeout: int | None = setting(SECONDS, default=None)
    gre_timeout: int | None = setting(SECONDS, default=None, since="5.0")
    gre_timeout_stream: int | None = setting(SECONDS, default=None, since="5.0")
    sctp_timeout_closed: int | None = setting(SECONDS, default=None)
    sctp_timeout_cookie_wait: int | None = setting(SECONDS, default=None)
    sctp_timeout_cookie_echoed: int | None = setting(SECONDS, default=None)
    sctp_timeout_established: int | None = setting(SECONDS, default=None)
    sctp_timeout_shutdown_sent: int | None = setting(SECONDS, default=None)
    sctp_timeout_shutdown_recd: int | None = setting(SECONDS, default=None)
    sctp_timeout_shutdown_ack_sent: int | None = setting(SECONDS, default=None)
    sctp_timeout_heartbeat_sent: int | None = setting(SECONDS, default=None)
    sctp_timeout_heartbeat_acked: int | None = setting(SECONDS, default=None, until="6.0")
    """Early patch levels of 6.1 may have it, too; 6.1.176 has none."""
    dccp_loose: bool | None = setting(SWITCH, default=None, until="6.16")
    """As ``tcp_loose``, of DCCP."""
    dccp_timeout_request: int | None = setting(SECONDS, default=None, until="6.16")
    dccp_timeout_respond: int | None = setting(SECONDS, default=None, until="6.16")
    dccp_timeout_partopen: int | None = setting(SECONDS, default=None, until="6.16")
    dccp_timeout_open: int | None = setting(SECONDS, default=None, until="6.16")
    dccp_timeout_closereq: int | None = setting(SECONDS, default=None, until="6.16")
    dccp_timeout_closing: int | None = setting(SECONDS, default=None, until="6.16")
    dccp_timeout_timewait: int | None = setting(SECONDS, default=None, until="6.16")
    flowtable_tcp_timeout: int | None = setting(
        SECONDS, default=None, prefix=FLOWTABLE, since="5.14"
    )
    """After which an idle connection leaves the flow table, which forwards without the tracker."""
    flowtable_udp_timeout: int | None = setting(
        SECONDS, default=None, prefix=FLOWTABLE, since="5.14"
    )
    frag6_timeout: int | None = setting(SECONDS, default=None)
    """For the fragments of an IPv6 packet to arrive, which are tracked as a whole."""
    frag6_low_thresh: int | None = setting(BYTES, default=None)
    """Without effect since Linux 4.17, but that it is not above ``frag6_high_thresh``."""
    frag6_high_thresh: int | None = setting(BYTES, default=None)
    """What fragments may take up; beyond it they are thrown away."""


@_settings
class ConntrackSysctls(SettableSysctls):
    """The settings of connection tracking in one network namespace.

    ``None`` where this kernel has none of that name here: it is older or newer, was built without
    that part, or (5.4 and its like, of the first three) hides it in a namespace that a user owns.
    Timeouts are in seconds, and hold for a flow from its next packet on; what the first three say
    is decided when a flow is made.
    """

    count: int | None = setting(NUMBER, default=None)
    """The entries in this namespace. Only the kernel writes it."""

    def blind_spots(self) -> list[BlindSpot]:
        """What a user does not see here, and the settings that hide it."""
        found: list[BlindSpot] = []
        for name, declared in SETTINGS.items():
            value = cast("int | None", getattr(self, name))
            if value is not None and (what := declared.hides.get(value)) is not None:
                found.append(BlindSpot(name, what, f"{sysctl_of(name)} is {int(value)}"))
        if self.count == 0:
            why = (
                "the kernel tracks nothing in a network namespace until a firewall rule there "
                "asks for it (any of nftables with ct, any of iptables with -m conntrack, any NAT)"
            )
            found.append(BlindSpot("count", "no flow is tracked", why))
        return found


SETTINGS: Final[Mapping[str, Setting]] = {
    field.name: field.metadata[SETTING]
    for field in attrs.fields(cast("type[attrs.AttrsInstance]", ConntrackSysctls))
}
"""Everything declared, by the name of the field."""


def sysctl_of(name: str) -> str:
    """The whole name of the setting that this field holds."""
    return SETTINGS[name].prefix + name
