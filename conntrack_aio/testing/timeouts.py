"""Handle the requests of nfnetlink's subsystem 8, timeout policies (``nfnetlink_cttimeout.c``).

The fake kernel stores and reports policies, and applies them to no flow, since it has no packets.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, cast

from ..model.protocols import ICMP, ICMPV6, TCP, UDP
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
from ..netlink import nfnetlink
from ..netlink.attributes import pack, pack_be32, pack_nest
from ..uapi.netlink import NLM_F
from ..uapi.nfnetlink import NFNL_SUBSYS
from ..uapi.nfnetlink_cttimeout import CTA_TIMEOUT, CTNL_TIMEOUT_NAME_MAX, IPCTNL_MSG_TIMEOUT
from . import releases
from .attributes import (
    NEST,
    U8,
    U16,
    U32,
    AttributeRule,
    Policy,
    Refused,
    parse,
    parse_nest,
    text,
    u16,
    u32,
)
from .protocol import Call, Handler, ListDump, Subsystem
from .releases import Release
from .state import TICKS_PER_SECOND, State

_MSG: Final = IPCTNL_MSG_TIMEOUT
_POLICY: Final[Policy] = {
    CTA_TIMEOUT.NAME: AttributeRule(text=True, max_length=CTNL_TIMEOUT_NAME_MAX - 1),
    CTA_TIMEOUT.L3PROTO: U16,
    CTA_TIMEOUT.L4PROTO: U8,
    CTA_TIMEOUT.DATA: NEST,
}
_MANDATORY: Final = frozenset(_POLICY)
_DCCP: Final = 33
_UDPLITE: Final = 136


class _Protocol(NamedTuple):
    """The timeouts of a protocol."""

    create: Callable[..., ProtocolTimeouts]
    """The model's class of these timeouts."""
    settings: Mapping[str, str]
    """The settings with the default timeouts, by field name, in the order of the attributes.

    A timeout without a setting has its default in :data:`_WITHOUT_SETTING`.
    """


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
_PROTOCOLS: Final[Mapping[int, _Protocol]] = {
    TCP: _Protocol(TCPTimeouts, _TCP),
    UDP: _Protocol(UDPTimeouts, _UDP),
    _UDPLITE: _Protocol(UDPTimeouts, _UDP),
    132: _Protocol(SCTPTimeouts, _SCTP),
    ICMP: _Protocol(ICMPTimeouts, {"timeout": "nf_conntrack_icmp_timeout"}),
    ICMPV6: _Protocol(ICMPv6Timeouts, {"timeout": "nf_conntrack_icmpv6_timeout"}),
    47: _Protocol(GRETimeouts, _GRE),
    GENERIC: _Protocol(GenericTimeouts, {"timeout": "nf_conntrack_generic_timeout"}),
    _DCCP: _Protocol(DCCPTimeouts, _settings("dccp", *_DCCP_STATES)),
}
_WITHOUT_SETTING: Final = {"syn_sent2": 120, "heartbeat_acked": 0}
"""Default timeouts that no setting has, in seconds.

The kernel removed the setting of SCTP's ``heartbeat_acked`` when it stopped using that timeout.
"""

Seconds = dict[str, int]
"""Timeouts in seconds, by the names of the model's fields."""


def timeouts_of(proto: int, release: Release) -> _Protocol:
    """Return the timeouts of a protocol.

    :raises Refused: when this kernel has no timeouts for the protocol.
    """
    feature = {_DCCP: releases.DCCP_TRACKED, _UDPLITE: releases.UDPLITE_TRACKED}.get(proto)
    if proto not in _PROTOCOLS or (feature is not None and not release.has(feature)):
        raise Refused(errno.EOPNOTSUPP)
    return _PROTOCOLS[proto]


class Timeouts(Subsystem):
    """The subsystem that manages timeout policies, and the default timeouts.

    The policies are in :attr:`.State.timeout_policies`. Most defaults are settings.
    """

    classes = (TimeoutPolicy,)

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._without_setting = dict(_WITHOUT_SETTING)

        def handler(execute: Callable[[Call], None]) -> Handler:
            return Handler(execute, CTA_TIMEOUT.USE, _POLICY)

        self.handlers: Mapping[int, Handler] = {
            _MSG.NEW: handler(self._new),
            _MSG.GET: handler(self._get),
            _MSG.DELETE: handler(self._delete),
            _MSG.DEFAULT_SET: handler(self._set_defaults),
            _MSG.DEFAULT_GET: handler(self._get_defaults),
        }

    def verb(self, message: int, flags: int, payload: bytes) -> str:
        if message == _MSG.NEW:
            return "replace policy" if flags & NLM_F.REPLACE else "create policy"
        if message == _MSG.GET:
            return "dump policies" if flags & NLM_F.DUMP else "get policy"
        if message == _MSG.DELETE:
            attributes = parse(payload[nfnetlink.SIZE :], CTA_TIMEOUT.USE, {}).attributes
            return "delete policy" if CTA_TIMEOUT.NAME in attributes else "flush policies"
        return "set defaults" if message == _MSG.DEFAULT_SET else "get defaults"

    def _policies(self) -> list[TimeoutPolicy]:
        """Return the policies, and complete those that a test has added."""
        for policy in self.state.timeout_policies:
            protocol = _PROTOCOLS.get(policy.proto)
            if protocol is not None:
                values = {} if policy.timeouts is None else _values(protocol, policy.timeouts)
                policy.timeouts = protocol.create(**(self._defaults(protocol) | values))
            policy.use = policy.use or 1
        return self.state.timeout_policies

    def _find(self, name: str) -> TimeoutPolicy | None:
        return next((policy for policy in self._policies() if policy.name == name), None)

    # -- policies -----------------------------------------------------------------------------

    def _new(self, call: Call) -> None:
        attributes = call.attributes
        if not attributes.keys() >= _MANDATORY:
            raise Refused(errno.EINVAL)
        name, proto = text(attributes[CTA_TIMEOUT.NAME]), attributes[CTA_TIMEOUT.L4PROTO][0]
        family = u16(attributes[CTA_TIMEOUT.L3PROTO])
        found = self._find(name)
        if found is not None:
            self._replace(call, found, family, proto)
            return
        protocol = timeouts_of(proto, self.state.release)
        timeouts = self._parse(protocol, attributes[CTA_TIMEOUT.DATA])
        self.state.timeout_policies.append(
            TimeoutPolicy(name=name, family=family, proto=proto, timeouts=timeouts, use=1)
        )

    def _replace(self, call: Call, found: TimeoutPolicy, family: int, proto: int) -> None:
        """Replace the timeouts of a policy, whose family and protocol cannot change."""
        if call.request.flags & NLM_F.EXCL:
            raise Refused(errno.EEXIST)
        if not call.request.flags & NLM_F.REPLACE:
            raise Refused(errno.EBUSY)
        if (found.family, found.proto) != (family, proto):
            raise Refused(errno.EINVAL)
        protocol = timeouts_of(proto, self.state.release)
        found.timeouts = self._parse(protocol, call.attributes[CTA_TIMEOUT.DATA])

    def _get(self, call: Call) -> None:
        if call.request.is_dump:
            type_ = nfnetlink.message_type(NFNL_SUBSYS.CTNETLINK_TIMEOUT, _MSG.NEW)
            payloads = [nfnetlink.pack(0) + _render(policy) for policy in self._policies()]
            call.dump(lambda: ListDump(call, type_, payloads))
        if CTA_TIMEOUT.NAME not in call.attributes:
            raise Refused(errno.EINVAL)
        found = self._find(text(call.attributes[CTA_TIMEOUT.NAME]))
        if found is None:
            raise Refused(errno.ENOENT)
        call.reply(_MSG.NEW, 0, _render(found))

    def _delete(self, call: Call) -> None:
        """Delete the policy with the name; without a name, delete all policies.

        Older kernels do not delete policies that rules refer to.
        """
        policies = self._policies()
        protected = [
            policy
            for policy in policies
            if policy.in_use and not self.state.release.has(releases.POLICY_DELETED_IN_USE)
        ]
        if CTA_TIMEOUT.NAME not in call.attributes:
            policies[:] = protected
            return
        found = self._find(text(call.attributes[CTA_TIMEOUT.NAME]))
        if found is None:
            raise Refused(errno.ENOENT)
        if any(found is policy for policy in protected):
            raise Refused(errno.EBUSY)
        policies[:] = [policy for policy in policies if policy is not found]

    # -- defaults -----------------------------------------------------------------------------

    def _set_defaults(self, call: Call) -> None:
        attributes = call.attributes
        mandatory = {CTA_TIMEOUT.L4PROTO, CTA_TIMEOUT.DATA}
        if not self.state.release.has(releases.DEFAULTS_WITHOUT_FAMILY):
            mandatory.add(CTA_TIMEOUT.L3PROTO)
        if not attributes.keys() >= mandatory:
            raise Refused(errno.EINVAL)
        protocol = timeouts_of(attributes[CTA_TIMEOUT.L4PROTO][0], self.state.release)
        changes = _parse_seconds(protocol, attributes[CTA_TIMEOUT.DATA])
        self._policies()  # completes them with the old defaults, which they keep
        for name, value in changes.items():
            setting = protocol.settings[name]
            if setting in self.state.sysctls:
                self.state.sysctls[setting] = value
            else:
                self._without_setting[name] = value

    def _get_defaults(self, call: Call) -> None:
        """Reply with the default timeouts, in a message of type DEFAULT_SET as the kernel does."""
        attributes = call.attributes
        if not attributes.keys() >= {CTA_TIMEOUT.L3PROTO, CTA_TIMEOUT.L4PROTO}:
            raise Refused(errno.EINVAL)
        proto = attributes[CTA_TIMEOUT.L4PROTO][0]
        protocol = timeouts_of(proto, self.state.release)
        call.reply(
            _MSG.DEFAULT_SET,
            0,
            _render_protocol(u16(attributes[CTA_TIMEOUT.L3PROTO]), proto),
            _render_data(self._defaults(protocol)),
        )

    def _defaults(self, protocol: _Protocol) -> Seconds:
        sysctls = self.state.sysctls
        return {
            name: sysctls[setting] if setting in sysctls else self._without_setting[name]
            for name, setting in protocol.settings.items()
        }

    def _parse(self, protocol: _Protocol, data: bytes) -> ProtocolTimeouts:
        """Parse the timeouts of a policy; those that are absent become the current defaults."""
        return protocol.create(**(self._defaults(protocol) | _parse_seconds(protocol, data)))


def _values(protocol: _Protocol, timeouts: ProtocolTimeouts) -> Seconds:
    values = {name: cast("int | None", getattr(timeouts, name, None)) for name in protocol.settings}
    return {name: value for name, value in values.items() if value is not None}


def _parse_seconds(protocol: _Protocol, data: bytes) -> Seconds:
    """Parse ``CTA_TIMEOUT_DATA``.

    The kernel converts seconds to ticks in 32 bits, so large values wrap around.
    """
    numbers = range(1, len(protocol.settings) + 1)
    nest = parse_nest(data, len(protocol.settings), dict.fromkeys(numbers, U32))
    return {
        name: (u32(nest[number]) * TICKS_PER_SECOND & 0xFFFFFFFF) // TICKS_PER_SECOND
        for number, name in enumerate(protocol.settings, 1)
        if number in nest
    }


def _render(policy: TimeoutPolicy) -> bytes:
    """Return the attributes of a policy (``ctnl_timeout_fill_info``)."""
    protocol = _PROTOCOLS.get(policy.proto)
    timeouts = policy.timeouts
    values = {} if protocol is None or timeouts is None else _values(protocol, timeouts)
    name = policy.name.encode(errors="surrogateescape") + b"\0"
    return (
        pack(CTA_TIMEOUT.NAME, name)
        + _render_protocol(policy.family, policy.proto)
        + pack_be32(CTA_TIMEOUT.USE, policy.use or 1)
        + _render_data(values)
    )


def _render_protocol(family: int, proto: int) -> bytes:
    return pack(CTA_TIMEOUT.L3PROTO, family.to_bytes(2, "big")) + pack(
        CTA_TIMEOUT.L4PROTO, bytes([proto])
    )


def _render_data(seconds: Seconds) -> bytes:
    """Return ``CTA_TIMEOUT_DATA`` with all timeouts of a protocol, in the order given."""
    parts = [pack_be32(number, value) for number, value in enumerate(seconds.values(), 1)]
    return pack_nest(CTA_TIMEOUT.DATA, *parts)
