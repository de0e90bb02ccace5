"""Requests about timeout policies: subsystem ``NFNL_SUBSYS_CTNETLINK_TIMEOUT``.

The kernel's traps closed here (``nfnetlink_cttimeout.c``): a delete without a name is one of all
policies, so there is none; a replacement resets what it does not name to the namespace's defaults;
seconds become ticks without a look at whether they fit.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from copy import copy
from socket import AF_INET
from types import MappingProxyType
from typing import cast

from ...errors import EncodeError
from ...model.timeouts import (
    PROTOCOL_TIMEOUTS,
    ProtocolTimeouts,
    TimeoutPolicy,
    protocol_of,
)
from ...model.values import describe_value
from ...netlink.exchange import Request
from ...uapi.netlink import NLM_F
from ...uapi.nfnetlink import NFNL_SUBSYS
from ...uapi.nfnetlink_cttimeout import CTA_TIMEOUT, IPCTNL_MSG_TIMEOUT
from ..reference import encode, encode_fields
from ..schema import schema_of
from .common import (
    NO_HINTS,
    as_argument,
    check_seconds,
    dump_all,
    plain_family,
    plain_name,
    request,
    wrong_kind,
)

_SUBJECT = "timeout policies"
_MISSING = (
    "This kernel was built without timeout policies (CONFIG_NF_CONNTRACK_TIMEOUT and "
    "CONFIG_NF_CT_NETLINK_TIMEOUT), or their module can't be loaded"
)
_UNKNOWN = (
    "There is no policy of that name in this network namespace (the ct timeout objects of nftables "
    "are others, and not to be had here)"
)
_NO_PROTOCOL = (
    "This kernel has no timeouts of that protocol; it dropped DCCP in 6.17 and UDP-Lite in 7.1"
)
_HINTS_DUMP: Mapping[int, str] = MappingProxyType({errno.EOPNOTSUPP: _MISSING})
_HINTS_GET: Mapping[int, str] = MappingProxyType({errno.ENOENT: _UNKNOWN})
_HINTS_CREATE: Mapping[int, str] = MappingProxyType(
    {
        errno.EEXIST: "A policy of this namespace has that name; update() and replace() change it",
        errno.EOPNOTSUPP: _NO_PROTOCOL,
    }
)
_HINTS_REPLACE: Mapping[int, str] = MappingProxyType(
    {
        errno.EINVAL: "The policy of that name is for another family or protocol, and keeps them",
        errno.EOPNOTSUPP: _NO_PROTOCOL,
    }
)
_HINTS_DELETE: Mapping[int, str] = MappingProxyType(
    {
        errno.ENOENT: _UNKNOWN,
        errno.EBUSY: "A rule has it (iptables ... -j CT --timeout): delete that first",
    }
)
_HINTS_DEFAULTS: Mapping[int, str] = MappingProxyType({errno.EOPNOTSUPP: _NO_PROTOCOL})


def _request(
    verb: str,
    subject: object,
    message: IPCTNL_MSG_TIMEOUT,
    attributes: bytes,
    hints: Mapping[int, str] = NO_HINTS,
    flags: int = 0,
) -> Request:
    subsystem = NFNL_SUBSYS.CTNETLINK_TIMEOUT
    return request(verb, subject, subsystem, message, attributes, flags=flags, hints=hints)


def dump() -> Request:
    """Read all policies. Also what tells whether there is the subsystem at all."""
    return dump_all(_SUBJECT, NFNL_SUBSYS.CTNETLINK_TIMEOUT, IPCTNL_MSG_TIMEOUT.GET, _HINTS_DUMP)


def get(name: str) -> Request:
    """Read one policy. Raises :exc:`EncodeError`."""
    return _request("get", _named(name), IPCTNL_MSG_TIMEOUT.GET, _name(name), _HINTS_GET)


def delete(name: str) -> Request:
    """Delete one policy. Raises :exc:`EncodeError`."""
    return _request("delete", _named(name), IPCTNL_MSG_TIMEOUT.DELETE, _name(name), _HINTS_DELETE)


def delete_listed(policy: TimeoutPolicy) -> Request:
    """Delete a policy that was told of, be its name empty, which :func:`delete` refuses."""
    attributes = encode_fields(TimeoutPolicy, {"name": policy.name})
    named = _named(policy.name)
    return _request("delete", named, IPCTNL_MSG_TIMEOUT.DELETE, attributes, _HINTS_DELETE)


def create(policy: TimeoutPolicy) -> Request:
    """Make a new policy, never change one that is there.

    Raises :exc:`TypeError` for what is no policy, and :exc:`EncodeError`.
    """
    policy = _check(policy)
    return _write("create", policy, NLM_F.CREATE | NLM_F.EXCL, _HINTS_CREATE)


def replace(policy: TimeoutPolicy) -> Request:
    """Make a policy, or give the one of its name these timeouts.

    Raises :exc:`TypeError` for what is no policy, and :exc:`EncodeError`.
    """
    policy = _check(policy)
    return _write("replace", policy, NLM_F.CREATE | NLM_F.REPLACE, _HINTS_REPLACE)


def update(policy: TimeoutPolicy, timeouts: ProtocolTimeouts) -> Request:
    """Replace a policy by itself, as it was read, with those timeouts changed that are told.

    Raises :exc:`EncodeError`.
    """
    timeouts = plain_timeouts(timeouts)
    protocol_of(type(timeouts), policy.proto)
    _check_changes(timeouts)
    changed = copy(policy)
    changed.timeouts = copy(policy.timeouts or timeouts)
    for name, value in _told(timeouts).items():
        setattr(changed.timeouts, name, value)
    return _write("update", changed, NLM_F.CREATE | NLM_F.REPLACE, _HINTS_REPLACE)


def get_defaults(kind: type[object], proto: int | None) -> Request:
    """Read a protocol's defaults. Raises :exc:`EncodeError`."""
    if not any(kind is each for each in PROTOCOL_TIMEOUTS):
        raise TypeError(
            f"kind must be a timeout class such as TCPTimeouts; got {describe_value(kind)}"
        )
    number = protocol_of(kind, proto)
    attributes = encode_fields(TimeoutPolicy, {"family": AF_INET, "proto": number})
    subject = f"{kind.__name__} by default"
    return _request("get", subject, IPCTNL_MSG_TIMEOUT.DEFAULT_GET, attributes, _HINTS_DEFAULTS)


def set_defaults(timeouts: ProtocolTimeouts, proto: int | None) -> Request:
    """Change those of a protocol's defaults that are told. Raises :exc:`EncodeError`.

    The family is only looked for, by kernels up to 6.8; the defaults are those of both.
    """
    timeouts = plain_timeouts(timeouts)
    number = protocol_of(type(timeouts), proto)
    _check_changes(timeouts)
    values = {"family": AF_INET, "proto": number, "timeouts": timeouts}
    attributes = encode_fields(TimeoutPolicy, values)
    subject = f"{type(timeouts).__name__} by default"
    return _request("set", subject, IPCTNL_MSG_TIMEOUT.DEFAULT_SET, attributes, _HINTS_DEFAULTS)


def plain_timeouts(timeouts: ProtocolTimeouts) -> ProtocolTimeouts:
    """Timeouts with plain values. Raises :exc:`TypeError` for what is none."""
    for kind in PROTOCOL_TIMEOUTS:
        if issubclass(type(timeouts), kind):
            return cast("ProtocolTimeouts", as_argument(timeouts, kind, ""))
    raise wrong_kind(timeouts, "timeouts are those of a protocol, as TCPTimeouts is")


def _named(name: str) -> str:
    return f"timeout policy {describe_value(name)}"


def _name(name: str) -> bytes:
    """The kernel takes an empty one too, which nothing could use."""
    return encode_fields(TimeoutPolicy, {"name": plain_name(name, "a policy", "name")})


def _write(verb: str, policy: TimeoutPolicy, flags: NLM_F, hints: Mapping[int, str]) -> Request:
    sent = copy(policy)
    sent.use = None
    return _request(
        verb, _named(policy.name), IPCTNL_MSG_TIMEOUT.NEW, encode(sent), hints, int(flags)
    )


def _check(policy: TimeoutPolicy) -> TimeoutPolicy:
    """Return the policy with plain values.

    Raises :exc:`EncodeError` for one that the kernel would not take, or no rule could use.
    """
    policy = as_argument(policy, TimeoutPolicy, "a policy is made of a TimeoutPolicy")
    try:
        _name(policy.name)
    except TypeError as error:
        raise EncodeError(str(error), ("name",)) from None
    plain_family(policy.family)
    if policy.timeouts is not None:
        protocol_of(type(policy.timeouts), policy.proto)
        _check_timeouts(policy.timeouts)
    elif not any(kept.path[:1] == (CTA_TIMEOUT.DATA,) for kept in policy.unknown):
        raise EncodeError("a policy has some, if only none that is told", ("timeouts",))
    return policy


def _check_changes(timeouts: ProtocolTimeouts) -> None:
    if not _told(timeouts):
        raise EncodeError("an update that changes nothing", ("timeouts",))
    _check_timeouts(timeouts)


def _check_timeouts(timeouts: ProtocolTimeouts) -> None:
    for name, value in _told(timeouts).items():
        check_seconds(value, ("timeouts", name))


def _told(timeouts: ProtocolTimeouts) -> dict[str, object]:
    """What is not absent, by the names of the fields."""
    names = [field.name for field in schema_of(type(timeouts)).fields]
    told = {name: getattr(timeouts, name) for name in names}
    return {name: value for name, value in told.items() if value is not None}
