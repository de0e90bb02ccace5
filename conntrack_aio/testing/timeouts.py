"""Subsystem 8, timeout policies: what the kernel does about each of its messages
(``nfnetlink_cttimeout.c``).

There are no packets here, so that a policy's timeouts are kept and told, and hold for no flow.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, cast

from ..model.timeouts import (
    GENERIC,
    DCCPTimeouts,
    GenericTimeouts,
    GRETimeouts,
    ICMPTimeouts,
    ICMPv6Timeouts,
    ProtocolTimeouts,
    SCTPTimeouts,
    TCPTimeouts,
    TimeoutPolicy,
    UDPTimeouts,
)
from ..model.tuples import ICMP, ICMPV6, TCP, UDP
from ..netlink import nfnetlink
from ..netlink.attributes import pack, pack_be32, pack_nest
from ..uapi.netlink import NLM_F
from ..uapi.nfnetlink import NFNL_SUBSYS
from ..uapi.nfnetlink_cttimeout import CTA_TIMEOUT, CTNL_TIMEOUT_NAME_MAX, IPCTNL_MSG_TIMEOUT
from . import ages
from .ages import Release
from .attributes import NEST, U8, U16, U32, Policy, Refused, Rule, parse, parse_nest, text, u16, u32
from .protocol import Call, Handler, ListDump, Subsystem
from .state import TICKS, State

_MSG: Final = IPCTNL_MSG_TIMEOUT
_POLICY: Final[Policy] = {
    CTA_TIMEOUT.NAME: Rule(text=True, most=CTNL_TIMEOUT_NAME_MAX - 1),
    CTA_TIMEOUT.L3PROTO: U16,
    CTA_TIMEOUT.L4PROTO: U8,
    CTA_TIMEOUT.DATA: NEST,
}
_MANDATORY: Final = frozenset(_POLICY)
_DCCP: Final = 33
_UDPLITE: Final = 136


class _Kind(NamedTuple):
    """The timeouts of a protocol: their class, and each one's setting, by the attributes' order.

    Where there is no setting, the default stands in :data:`_UNSET`.
    """

    make: Callable[..., ProtocolTimeouts]
    settings: Mapping[str, str]


def _settings(proto: str, *names: str) -> dict[str, str]:
    return {name: f"nf_conntrack_{proto}_timeout_{name}" for name in names}


_TCP: Final = {
    **_settings("tcp", "syn_sent", "syn_recv", "established", "fin_wait", "close_wait"),
    **_settings("tcp", "last_ack", "time_wait", "close"),
    "syn_sent2": "",
    "retrans": "nf_conntrack_tcp_timeout_max_retrans",
    "unack": "nf_conntrack_tcp_timeout_unacknowledged",
}
_UDP: Final = {
    "unreplied": "nf_conntrack_udp_timeout",
    "replied": "nf_conntrack_udp_timeout_stream",
}
_SCTP: Final = {
    **_settings("sctp", "closed", "cookie_wait", "cookie_echoed", "established"),
    **_settings("sctp", "shutdown_sent", "shutdown_recd", "shutdown_ack_sent", "heartbeat_sent"),
    **_settings("sctp", "heartbeat_acked"),
}
_GRE: Final = {
    "unreplied": "nf_conntrack_gre_timeout",
    "replied": "nf_conntrack_gre_timeout_stream",
}
_DCCP_STATES: Final = (
    *("request", "respond", "partopen", "open", "closereq", "closing", "timewait"),
)
_KINDS: Final[Mapping[int, _Kind]] = {
    TCP: _Kind(TCPTimeouts, _TCP),
    UDP: _Kind(UDPTimeouts, _UDP),
    _UDPLITE: _Kind(UDPTimeouts, _UDP),
    132: _Kind(SCTPTimeouts, _SCTP),
    ICMP: _Kind(ICMPTimeouts, {"timeout": "nf_conntrack_icmp_timeout"}),
    ICMPV6: _Kind(ICMPv6Timeouts, {"timeout": "nf_conntrack_icmpv6_timeout"}),
    47: _Kind(GRETimeouts, _GRE),
    GENERIC: _Kind(GenericTimeouts, {"timeout": "nf_conntrack_generic_timeout"}),
    _DCCP: _Kind(DCCPTimeouts, _settings("dccp", *_DCCP_STATES)),
}
_UNSET: Final = {"syn_sent2": 120, "heartbeat_acked": 0}
"""Defaults that no setting has. (SCTP's had one, until it was no longer used.)"""

Seconds = dict[str, int]
"""By the names of the model's fields."""


def kind_of(proto: int, release: Release) -> _Kind:
    """Raises :exc:`Refused` for a protocol that this kernel has no timeouts of."""
    gone = {_DCCP: ages.DCCP_TRACKED, _UDPLITE: ages.UDPLITE_TRACKED}.get(proto)
    if proto not in _KINDS or (gone is not None and not release.has(gone)):
        raise Refused(errno.EOPNOTSUPP)
    return _KINDS[proto]


class Timeouts(Subsystem):
    """ctnetlink's timeout policies: :attr:`.State.timeout_policies`, and the defaults, which are
    settings."""

    classes = (TimeoutPolicy,)

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._unset = dict(_UNSET)

        def reading(carry_out: Callable[[Call], None]) -> Handler:
            return Handler(carry_out, CTA_TIMEOUT.USE, _POLICY)

        self.handlers: Mapping[int, Handler] = {
            _MSG.NEW: reading(self._new),
            _MSG.GET: reading(self._get),
            _MSG.DELETE: reading(self._delete),
            _MSG.DEFAULT_SET: reading(self._set_defaults),
            _MSG.DEFAULT_GET: reading(self._get_defaults),
        }

    def verb(self, message: int, flags: int, payload: bytes) -> str:
        if message == _MSG.NEW:
            return "replace policy" if flags & NLM_F.REPLACE else "create policy"
        if message == _MSG.GET:
            return "dump policies" if flags & NLM_F.DUMP else "get policy"
        if message == _MSG.DELETE:
            given = parse(payload[nfnetlink.SIZE :], CTA_TIMEOUT.USE, {}).attributes
            return "delete policy" if CTA_TIMEOUT.NAME in given else "flush policies"
        return "set defaults" if message == _MSG.DEFAULT_SET else "get defaults"

    def _policies(self) -> list[TimeoutPolicy]:
        """The list. What a test has put in is given all that a policy has."""
        for policy in self.state.timeout_policies:
            kind = _KINDS.get(policy.proto)
            if kind is not None:
                told = {} if policy.timeouts is None else _told(kind, policy.timeouts)
                policy.timeouts = kind.make(**(self._defaults(kind) | told))
            policy.use = policy.use or 1
        return self.state.timeout_policies

    def _find(self, name: str) -> TimeoutPolicy | None:
        return next((policy for policy in self._policies() if policy.name == name), None)

    # -- policies -----------------------------------------------------------------------------

    def _new(self, call: Call) -> None:
        given = call.attributes
        if not given.keys() >= _MANDATORY:
            raise Refused(errno.EINVAL)
        name, proto = text(given[CTA_TIMEOUT.NAME]), given[CTA_TIMEOUT.L4PROTO][0]
        family = u16(given[CTA_TIMEOUT.L3PROTO])
        found = self._find(name)
        if found is not None:
            self._replace(call, found, family, proto)
            return
        kind = kind_of(proto, self.state.release)
        timeouts = self._parse(kind, given[CTA_TIMEOUT.DATA])
        self.state.timeout_policies.append(
            TimeoutPolicy(name=name, family=family, proto=proto, timeouts=timeouts, use=1)
        )

    def _replace(self, call: Call, found: TimeoutPolicy, family: int, proto: int) -> None:
        """Only what it counts down from: a policy keeps its family and its protocol."""
        if call.asked.flags & NLM_F.EXCL:
            raise Refused(errno.EEXIST)
        if not call.asked.flags & NLM_F.REPLACE:
            raise Refused(errno.EBUSY)
        if (found.family, found.proto) != (family, proto):
            raise Refused(errno.EINVAL)
        kind = kind_of(proto, self.state.release)
        found.timeouts = self._parse(kind, call.attributes[CTA_TIMEOUT.DATA])

    def _get(self, call: Call) -> None:
        if call.asked.is_dump:
            kind = nfnetlink.message_type(NFNL_SUBSYS.CTNETLINK_TIMEOUT, _MSG.NEW)
            payloads = [nfnetlink.pack(0) + _render(policy) for policy in self._policies()]
            call.dump(lambda: ListDump(call, kind, payloads))
        if CTA_TIMEOUT.NAME not in call.attributes:
            raise Refused(errno.EINVAL)
        found = self._find(text(call.attributes[CTA_TIMEOUT.NAME]))
        if found is None:
            raise Refused(errno.ENOENT)
        call.answer(_MSG.NEW, 0, _render(found))

    def _delete(self, call: Call) -> None:
        """Without a name: of all. Those that rules have stay, on kernels that mind them."""
        policies = self._policies()
        kept = [
            policy
            for policy in policies
            if policy.in_use and not self.state.release.has(ages.POLICY_DELETED_IN_USE)
        ]
        if CTA_TIMEOUT.NAME not in call.attributes:
            policies[:] = kept
            return
        found = self._find(text(call.attributes[CTA_TIMEOUT.NAME]))
        if found is None:
            raise Refused(errno.ENOENT)
        if any(found is policy for policy in kept):
            raise Refused(errno.EBUSY)
        policies[:] = [policy for policy in policies if policy is not found]

    # -- defaults -----------------------------------------------------------------------------

    def _set_defaults(self, call: Call) -> None:
        given = call.attributes
        wanted = {CTA_TIMEOUT.L4PROTO, CTA_TIMEOUT.DATA}
        if not self.state.release.has(ages.DEFAULTS_WITHOUT_FAMILY):
            wanted.add(CTA_TIMEOUT.L3PROTO)
        if not given.keys() >= wanted:
            raise Refused(errno.EINVAL)
        kind = kind_of(given[CTA_TIMEOUT.L4PROTO][0], self.state.release)
        changes = _parse_seconds(kind, given[CTA_TIMEOUT.DATA])
        self._policies()  # they keep what they have
        for name, value in changes.items():
            setting = kind.settings[name]
            if setting in self.state.sysctls:
                self.state.sysctls[setting] = value
            else:
                self._unset[name] = value

    def _get_defaults(self, call: Call) -> None:
        """The answer is of another type than the question's subject: that of a request to set."""
        given = call.attributes
        if not given.keys() >= {CTA_TIMEOUT.L3PROTO, CTA_TIMEOUT.L4PROTO}:
            raise Refused(errno.EINVAL)
        proto = given[CTA_TIMEOUT.L4PROTO][0]
        kind = kind_of(proto, self.state.release)
        call.answer(
            _MSG.DEFAULT_SET,
            0,
            _render_protocol(u16(given[CTA_TIMEOUT.L3PROTO]), proto),
            _render_data(self._defaults(kind)),
        )

    def _defaults(self, kind: _Kind) -> Seconds:
        sysctls = self.state.sysctls
        return {
            name: sysctls[setting] if setting in sysctls else self._unset[name]
            for name, setting in kind.settings.items()
        }

    def _parse(self, kind: _Kind, data: bytes) -> ProtocolTimeouts:
        """What is not named is the default of now, whatever it was before."""
        return kind.make(**(self._defaults(kind) | _parse_seconds(kind, data)))


def _told(kind: _Kind, timeouts: ProtocolTimeouts) -> Seconds:
    values = {name: cast("int | None", getattr(timeouts, name, None)) for name in kind.settings}
    return {name: value for name, value in values.items() if value is not None}


def _parse_seconds(kind: _Kind, data: bytes) -> Seconds:
    """What ``CTA_TIMEOUT_DATA`` names. Seconds become ticks in 32 bits: too many begin anew."""
    numbers = range(1, len(kind.settings) + 1)
    nest = parse_nest(data, len(kind.settings), dict.fromkeys(numbers, U32))
    return {
        name: (u32(nest[number]) * TICKS & 0xFFFFFFFF) // TICKS
        for number, name in enumerate(kind.settings, 1)
        if number in nest
    }


def _render(policy: TimeoutPolicy) -> bytes:
    """``ctnl_timeout_fill_info``."""
    kind = _KINDS.get(policy.proto)
    told = {} if kind is None or policy.timeouts is None else _told(kind, policy.timeouts)
    name = policy.name.encode(errors="surrogateescape") + b"\0"
    return (
        pack(CTA_TIMEOUT.NAME, name)
        + _render_protocol(policy.family, policy.proto)
        + pack_be32(CTA_TIMEOUT.USE, policy.use or 1)
        + _render_data(told)
    )


def _render_protocol(family: int, proto: int) -> bytes:
    return pack(CTA_TIMEOUT.L3PROTO, family.to_bytes(2, "big")) + pack(
        CTA_TIMEOUT.L4PROTO, bytes([proto])
    )


def _render_data(seconds: Seconds) -> bytes:
    """All of a protocol's, in the order of the attributes."""
    parts = [pack_be32(number, value) for number, value in enumerate(seconds.values(), 1)]
    return pack_nest(CTA_TIMEOUT.DATA, *parts)
