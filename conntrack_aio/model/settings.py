"""The settings of connection tracking, each declared once.

A *sysctl* is a variable of the kernel, such as ``net.netfilter.nf_conntrack_acct``. A *setting* is
a sysctl as this library declares it: a field of :class:`ConntrackSysctls`, such as ``acct``, with a
type. :func:`sysctl_of` returns the name of its sysctl.

The declaration beside a field has the setting's type and unit, and what it hides. Sources:
``net/netfilter/nf_conntrack_standalone.c``; for fragments,
``net/ipv6/netfilter/nf_conntrack_reasm.c``; and Documentation/networking/nf_conntrack-sysctl.rst.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Generic, TypeVar, cast, dataclass_transform

import attrs

from ..errors import DecodeError
from ..plain import as_int
from .enums import NamedNumber
from .sysctl_names import CONNTRACK
from .values import describe_value

T = TypeVar("T", bound=int)
T_co = TypeVar("T_co", bound=int, covariant=True)
C = TypeVar("C")

FLOWTABLE = "net.netfilter.nf_"
"""The prefix of the sysctls of nftables' flowtables, before ``flowtable``."""


class EventMode(NamedNumber):
    """The flows that emit events. The kernel decides this when it creates a flow."""

    OFF = 0
    """No flow emits events."""
    ALWAYS = 1
    """All flows emit events."""
    AUTO = 2
    """Flows emit events if a program listens when they are created, in any network namespace of the
    machine; on Linux 5.19 to 6.5, in the same one. The default since 5.19; older kernels do not
    have this mode, and their default is ALWAYS."""


# Declaring a setting


@attrs.frozen
class SettingType(Generic[T_co]):
    """The type of a setting's value, and the unit of its number."""

    type: type[T_co]
    unit: str = ""


SWITCH: Final = SettingType(bool)
MODE: Final = SettingType(EventMode)
NUMBER: Final = SettingType(int)
SECONDS: Final = SettingType(int, "seconds")
BYTES: Final = SettingType(int, "bytes")

_LARGEST: Final = (1 << 64) - 1
"""The largest value of any setting."""

_NOTHING: Final[Mapping[int, str]] = MappingProxyType({})


@attrs.frozen
class Setting:
    """The declaration of a setting."""

    value_type: SettingType[int]
    """The type and unit."""
    prefix: str
    """The part of the sysctl's name before the field's name."""
    machine: bool
    """Whether the sysctl applies to the whole machine. Other network namespaces can only read
    it."""
    since: str
    """The first kernel that has the sysctl, if later than 4.19."""
    until: str
    """The last kernel that has the sysctl."""
    hides: Mapping[int, str]
    """What is invisible to a user, by the value that hides it."""

    def read(self, text: str) -> int:
        """Return the value of a file's contents.

        :raises DecodeError: when the contents are not a number.
        """
        try:
            number = int(text)
        except ValueError:
            raise DecodeError(f"expected a number; got {text!r}") from None
        try:
            return self.value_type.type(number)
        except ValueError:
            return number  # a mode of a newer kernel

    def check(self, name: str, value: object) -> int:
        """Return the plain value if the setting accepts it.

        A number may be any integer except a ``bool``. A switch accepts only a ``bool``, and a mode
        only its members.

        :param name: the name of the field, for error messages.
        :param value: the value to check.
        :raises TypeError: when the value has another type.
        :raises ValueError: when the value is negative or too large.
        """
        expected = self.value_type.type
        fits = type(value) is not bool if expected is int else type(value) is expected
        try:
            number = as_int(value) if fits else None
        except TypeError:
            number = None
        if number is None:
            raise TypeError(
                f"{name} must be {_describe_type(expected)}; got {describe_value(value)}"
            )
        # The kernel accepts -1 as a timeout, which then is 136 years minus a second.
        if number < 0:
            raise ValueError(f"{name} must not be negative; got {describe_value(number)}")
        if number > _LARGEST:
            raise ValueError(f"{name} must be at most {_LARGEST}; got {describe_value(number)}")
        return number


def _describe_type(expected: type[int]) -> str:
    if expected is bool:
        return "True or False"
    return "an int" if expected is int else f"a member of {expected.__name__}"


SETTING: Final = "conntrack_aio.setting"


def setting(
    value_type: SettingType[T],
    *,
    default: None,
    prefix: str = CONNTRACK,
    machine: bool = False,
    since: str = "",
    until: str = "",
    hides: Mapping[int, str] = _NOTHING,
) -> T | None:
    """Declare a setting: a field with the value of a sysctl, ``None`` if there is no such sysctl.

    :param value_type: the type and unit of the value.
    :param default: ``None``.
    :param prefix: the part of the sysctl's name before the field's name.
    :param machine: whether the sysctl applies to the whole machine.
    :param since: the first kernel that has the sysctl, if later than 4.19.
    :param until: the last kernel that has the sysctl.
    :param hides: what is invisible to a user, by the value that hides it.
    """
    declared = Setting(value_type, prefix, machine, since, until, hides)
    field: T | None = attrs.field(default=default, metadata={SETTING: declared})
    return field


@dataclass_transform(kw_only_default=True, field_specifiers=(setting,))
def _settings(cls: type[C]) -> type[C]:
    return attrs.define(cls, kw_only=True)


# Blind spots


TRACKING_RULES: Final = (
    "any nftables rule with ct, any iptables rule with -m conntrack, and any NAT needs it"
)
"""The firewall rules that make the kernel track connections in their network namespace."""


@attrs.frozen
class BlindSpot:
    """Something that is invisible to a user in a network namespace, and the reason.

    Its text is both: ``"flows have no counters here: net.netfilter.nf_conntrack_acct is 0"``.
    """

    setting: str
    """The setting that causes it: the name of a field of :class:`ConntrackSysctls`."""
    what: str
    """What is invisible."""
    why: str
    """The reason: the sysctl and its value, or for an empty table the possible lack of rules."""

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
            EventMode.AUTO: "flows that were created while no program listened emit no events",
        },
    )
    """The flows that emit events."""
    acct: bool | None = setting(SWITCH, default=None, hides={0: "flows have no counters"})
    """Whether the kernel counts the packets and bytes of flows."""
    timestamp: bool | None = setting(
        SWITCH, default=None, hides={0: "flows and their events have no timestamps"}
    )
    """Whether the kernel records the times at which flows are created and end."""
    max: int | None = setting(NUMBER, default=None, machine=True)
    """The limit of entries in each network namespace."""
    buckets: int | None = setting(NUMBER, default=None, machine=True)
    """The size of the hash table that all network namespaces share. Setting it rebuilds the
    table."""
    expect_max: int | None = setting(NUMBER, default=None, machine=True)
    """The limit of expectations."""
    checksum: bool | None = setting(SWITCH, default=None)
    """Whether a received packet with a wrong checksum is INVALID and not tracked."""
    log_invalid: int | None = setting(NUMBER, default=None)
    """The number of the protocol whose INVALID packets are logged: 0 means none, 255 means all."""
    helper: bool | None = setting(SWITCH, default=None, until="6.0")
    """Whether flows get helpers by their ports alone, without a rule."""
    tcp_loose: bool | None = setting(SWITCH, default=None)
    """Whether the kernel tracks TCP connections that it did not see from their start."""
    tcp_be_liberal: bool | None = setting(SWITCH, default=None)
    """Whether TCP packets outside the window are valid, except for resets."""
    tcp_ignore_invalid_rst: bool | None = setting(SWITCH, default=None, since="5.14")
    """Whether resets outside the window are valid, too."""
    tcp_max_retrans: int | None = setting(NUMBER, default=None)
    """The number of retransmissions after which ``tcp_timeout_max_retrans`` applies."""

    generic_timeout: int | None = setting(SECONDS, default=None)
    """The timeout of protocols without a tracker of their own."""
    tcp_timeout_syn_sent: int | None = setting(SECONDS, default=None)
    """The timeout in the state SYN_SENT."""
    tcp_timeout_syn_recv: int | None = setting(SECONDS, default=None)
    """The timeout in the state SYN_RECV."""
    tcp_timeout_established: int | None = setting(SECONDS, default=None)
    """The timeout in the state ESTABLISHED."""
    tcp_timeout_fin_wait: int | None = setting(SECONDS, default=None)
    """The timeout in the state FIN_WAIT."""
    tcp_timeout_close_wait: int | None = setting(SECONDS, default=None)
    """The timeout in the state CLOSE_WAIT."""
    tcp_timeout_last_ack: int | None = setting(SECONDS, default=None)
    """The timeout in the state LAST_ACK."""
    tcp_timeout_time_wait: int | None = setting(SECONDS, default=None)
    """The timeout in the state TIME_WAIT."""
    tcp_timeout_close: int | None = setting(SECONDS, default=None)
    """The timeout in the state CLOSE."""
    tcp_timeout_max_retrans: int | None = setting(SECONDS, default=None)
    """The limit of the timeout after ``tcp_max_retrans`` retransmissions."""
    tcp_timeout_unacknowledged: int | None = setting(SECONDS, default=None)
    """The limit of the timeout while data is not acknowledged."""
    udp_timeout: int | None = setting(SECONDS, default=None)
    """The timeout of a UDP flow."""
    udp_timeout_stream: int | None = setting(SECONDS, default=None)
    """The timeout of a flow that was answered and continues."""
    icmp_timeout: int | None = setting(SECONDS, default=None)
    """The timeout of an ICMP flow."""
    icmpv6_timeout: int | None = setting(SECONDS, default=None)
    """The timeout of an ICMPv6 flow."""
    gre_timeout: int | None = setting(SECONDS, default=None, since="5.0")
    """The timeout of a GRE flow."""
    gre_timeout_stream: int | None = setting(SECONDS, default=None, since="5.0")
    """The timeout of a GRE flow that was answered."""
    sctp_timeout_closed: int | None = setting(SECONDS, default=None)
    """The timeout in the state CLOSED."""
    sctp_timeout_cookie_wait: int | None = setting(SECONDS, default=None)
    """The timeout in the state COOKIE_WAIT."""
    sctp_timeout_cookie_echoed: int | None = setting(SECONDS, default=None)
    """The timeout in the state COOKIE_ECHOED."""
    sctp_timeout_established: int | None = setting(SECONDS, default=None)
    """The timeout in the state ESTABLISHED."""
    sctp_timeout_shutdown_sent: int | None = setting(SECONDS, default=None)
    """The timeout in the state SHUTDOWN_SENT."""
    sctp_timeout_shutdown_recd: int | None = setting(SECONDS, default=None)
    """The timeout in the state SHUTDOWN_RECD."""
    sctp_timeout_shutdown_ack_sent: int | None = setting(SECONDS, default=None)
    """The timeout in the state SHUTDOWN_ACK_SENT."""
    sctp_timeout_heartbeat_sent: int | None = setting(SECONDS, default=None)
    """The timeout in the state HEARTBEAT_SENT."""
    sctp_timeout_heartbeat_acked: int | None = setting(SECONDS, default=None, until="6.0")
    """The timeout in the state HEARTBEAT_ACKED. Early 6.1 releases may have it; 6.1.176 does
    not."""
    dccp_loose: bool | None = setting(SWITCH, default=None, until="6.16")
    """Whether the kernel tracks DCCP connections that it did not see from their start."""
    dccp_timeout_request: int | None = setting(SECONDS, default=None, until="6.16")
    """The timeout in the state REQUEST."""
    dccp_timeout_respond: int | None = setting(SECONDS, default=None, until="6.16")
    """The timeout in the state RESPOND."""
    dccp_timeout_partopen: int | None = setting(SECONDS, default=None, until="6.16")
    """The timeout in the state PARTOPEN."""
    dccp_timeout_open: int | None = setting(SECONDS, default=None, until="6.16")
    """The timeout in the state OPEN."""
    dccp_timeout_closereq: int | None = setting(SECONDS, default=None, until="6.16")
    """The timeout in the state CLOSEREQ."""
    dccp_timeout_closing: int | None = setting(SECONDS, default=None, until="6.16")
    """The timeout in the state CLOSING."""
    dccp_timeout_timewait: int | None = setting(SECONDS, default=None, until="6.16")
    """The timeout in the state TIMEWAIT."""
    flowtable_tcp_timeout: int | None = setting(
        SECONDS, default=None, prefix=FLOWTABLE, since="5.14"
    )
    """The idle time after which a TCP connection leaves nftables' flowtables, whose packets bypass
    the tracker."""
    flowtable_udp_timeout: int | None = setting(
        SECONDS, default=None, prefix=FLOWTABLE, since="5.14"
    )
    """The idle time after which a UDP flow leaves nftables' flowtables."""
    frag6_timeout: int | None = setting(SECONDS, default=None)
    """The time for all fragments of an IPv6 packet to arrive; the kernel tracks the whole
    packet."""
    frag6_low_thresh: int | None = setting(BYTES, default=None)
    """Without effect since Linux 4.17, except that it must not be greater than
    ``frag6_high_thresh``."""
    frag6_high_thresh: int | None = setting(BYTES, default=None)
    """The memory limit for fragments. The kernel drops fragments beyond it."""


@_settings
class ConntrackSysctls(SettableSysctls):
    """The settings of connection tracking in one network namespace.

    ``None`` means that this kernel does not have the sysctl in this namespace: it is older or
    newer, it was built without that part, or it hides the sysctl in a namespace that a user owns
    (:attr:`events`, :attr:`acct` and :attr:`timestamp`, on Linux 5.4 and others).

    Timeouts are in seconds. A new timeout applies to a flow from its next packet. :attr:`events`,
    :attr:`acct` and :attr:`timestamp` apply to flows that are created afterward.
    """

    count: int | None = setting(NUMBER, default=None)
    """The number of entries in this network namespace. Only the kernel writes it."""

    def blind_spots(self) -> list[BlindSpot]:
        """Return what is invisible to a user here, and the settings that hide it.

        An empty table is one of them, because it may mean that the kernel tracks nothing here.
        :meth:`Sysctls.tracking` finds out whether it does.
        """
        found: list[BlindSpot] = []
        for name, declared in SETTINGS.items():
            value = cast("int | None", getattr(self, name))
            if value is not None and (what := declared.hides.get(value)) is not None:
                found.append(BlindSpot(name, what, f"{sysctl_of(name)} is {int(value)}"))
        if self.count == 0:
            # Whether a rule needs connection tracking takes requests: see Sysctls.tracking().
            why = "if no firewall rule needs connection tracking, nothing is tracked; "
            why += TRACKING_RULES
            found.append(BlindSpot("count", "the table is empty", why))
        return found


SETTINGS: Final[Mapping[str, Setting]] = {
    field.name: field.metadata[SETTING]
    for field in attrs.fields(cast("type[attrs.AttrsInstance]", ConntrackSysctls))
}
"""The declarations of all settings, by the names of their fields."""


def sysctl_of(name: str) -> str:
    """Return the full name of the sysctl of a field."""
    return SETTINGS[name].prefix + name
