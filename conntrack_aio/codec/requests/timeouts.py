"""Requests about timeout policies: subsystem ``NFNL_SUBSYS_CTNETLINK_TIMEOUT``.

Rules of the kernel that this module deals with (``nfnetlink_cttimeout.c``):

- A delete without a name deletes all policies, so none is ever sent.
- A replacement sets the timeouts that it does not contain to the namespace's defaults.
- Seconds are converted to ticks without a check of whether they fit.
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
from .common import as_argument, check_seconds, plain_family, plain_name, wrong_kind
from .request import NO_HINTS, dump_all, request

_SUBJECT = "timeout policies"
_MISSING = (
    "This kernel was built without timeout policies (CONFIG_NF_CONNTRACK_TIMEOUT and "
    "CONFIG_NF_CT_NETLINK_TIMEOUT), or their module cannot be loaded"
)
_UNKNOWN = (
    "There is no policy of this name in this network namespace. The ct timeout objects of nftables "
    "are different ones"
)
_NO_PROTOCOL = (
    "This kernel has no timeouts of this protocol. Linux dropped DCCP in 6.17 and UDP-Lite in 7.1"
)
_HINTS_DUMP: Mapping[int, str] = MappingProxyType({errno.EOPNOTSUPP: _MISSING})
_HINTS_GET: Mapping[int, str] = MappingProxyType({errno.ENOENT: _UNKNOWN})
_HINTS_CREATE: Mapping[int, str] = MappingProxyType(
    {
        errno.EEXIST: "There is a policy of this name; update() and replace() change it",
        errno.EOPNOTSUPP: _NO_PROTOCOL,
    }
)
_HINTS_REPLACE: Mapping[int, str] = MappingProxyType(
    {
        errno.EINVAL: "The policy of this name has another family or protocol, which cannot change",
        errno.EOPNOTSUPP: _NO_PROTOCOL,
    }
)
_HINTS_DELETE: Mapping[int, str] = MappingProxyType(
    {
        errno.ENOENT: _UNKNOWN,
        errno.EBUSY: "A rule uses it (iptables ... -j CT --timeout); delete the rule first",
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
    """Return the request that dumps all policies. It also shows whether the subsystem exists."""
    return dump_all(_SUBJECT, NFNL_SUBSYS.CTNETLINK_TIMEOUT, IPCTNL_MSG_TIMEOUT.GET, _HINTS_DUMP)


def get(name: str) -> Request:
    """Return the request that reads one policy.

    :raises EncodeError: when no policy can have the name.
    """
    return _request(
        "get", _subject_of(name), IPCTNL_MSG_TIMEOUT.GET, _name_attribute(name), _HINTS_GET
    )


def delete(name: str) -> Request:
    """Return the request that deletes one policy.

    :raises EncodeError: when no policy can have the name.
    """
    return _request(
        "delete", _subject_of(name), IPCTNL_MSG_TIMEOUT.DELETE, _name_attribute(name), _HINTS_DELETE
    )


def delete_listed(policy: TimeoutPolicy) -> Request:
    """Return the request that deletes a policy of a dump.

    Its name may be empty, which :func:`delete` refuses.
    """
    attributes = encode_fields(TimeoutPolicy, {"name": policy.name})
    subject = _subject_of(policy.name)
    return _request("delete", subject, IPCTNL_MSG_TIMEOUT.DELETE, attributes, _HINTS_DELETE)


def create(policy: TimeoutPolicy) -> Request:
    """Return the request that creates a policy, and never changes one that exists.

    :raises TypeError: when ``policy`` is not a policy.
    :raises EncodeError: when a field holds no valid value.
    """
    policy = _checked_policy(policy)
    return _write_policy("create", policy, NLM_F.CREATE | NLM_F.EXCL, _HINTS_CREATE)


def replace(policy: TimeoutPolicy) -> Request:
    """Return the request that creates or replaces the policy of this name.

    :raises TypeError: when ``policy`` is not a policy.
    :raises EncodeError: when a field holds no valid value.
    """
    policy = _checked_policy(policy)
    return _write_policy("replace", policy, NLM_F.CREATE | NLM_F.REPLACE, _HINTS_REPLACE)


def update(policy: TimeoutPolicy, timeouts: ProtocolTimeouts) -> Request:
    """Return the request that replaces a policy by itself with some timeouts changed.

    :param policy: the policy as it was read.
    :param timeouts: the timeouts to change; those that are ``None`` stay as they are.

    :raises EncodeError: when the timeouts are of another protocol, or when a value is not valid.
    """
    timeouts = plain_timeouts(timeouts)
    protocol_of(type(timeouts), policy.proto)
    _check_changes(timeouts)
    changed = copy(policy)
    changed.timeouts = copy(policy.timeouts or timeouts)
    for name, value in _present_timeouts(timeouts).items():
        setattr(changed.timeouts, name, value)
    return _write_policy("update", changed, NLM_F.CREATE | NLM_F.REPLACE, _HINTS_REPLACE)


def get_defaults(kind: type[object], proto: int | None) -> Request:
    """Return the request that reads the default timeouts of a protocol.

    :raises TypeError: when ``kind`` is not a class of timeouts.
    :raises EncodeError: when the protocol does not belong to ``kind``.
    """
    if not any(kind is each for each in PROTOCOL_TIMEOUTS):
        raise TypeError(
            f"kind must be a timeout class such as TCPTimeouts; got {describe_value(kind)}"
        )
    number = protocol_of(kind, proto)
    attributes = encode_fields(TimeoutPolicy, {"family": AF_INET, "proto": number})
    subject = f"the default {kind.__name__}"
    return _request("get", subject, IPCTNL_MSG_TIMEOUT.DEFAULT_GET, attributes, _HINTS_DEFAULTS)


def set_defaults(timeouts: ProtocolTimeouts, proto: int | None) -> Request:
    """Return the request that changes some default timeouts of a protocol.

    Kernels up to 6.8 require a family, although the defaults are those of both.

    :raises EncodeError: when a value is not valid.
    """
    timeouts = plain_timeouts(timeouts)
    number = protocol_of(type(timeouts), proto)
    _check_changes(timeouts)
    values = {"family": AF_INET, "proto": number, "timeouts": timeouts}
    attributes = encode_fields(TimeoutPolicy, values)
    subject = f"the default {type(timeouts).__name__}"
    return _request("set", subject, IPCTNL_MSG_TIMEOUT.DEFAULT_SET, attributes, _HINTS_DEFAULTS)


def plain_timeouts(timeouts: ProtocolTimeouts) -> ProtocolTimeouts:
    """Return timeouts with plain values.

    :raises TypeError: when ``timeouts`` is not an object of a class of timeouts.
    """
    for kind in PROTOCOL_TIMEOUTS:
        if issubclass(type(timeouts), kind):
            return cast("ProtocolTimeouts", as_argument(timeouts, kind, ""))
    raise wrong_kind(timeouts, "timeouts must be an object of a class such as TCPTimeouts")


def _subject_of(name: str) -> str:
    """Return the text by which errors name a policy."""
    return f"timeout policy {describe_value(name)}"


def _name_attribute(name: str) -> bytes:
    """Return the attribute of a name. The kernel accepts an empty one, which no rule can use."""
    return encode_fields(TimeoutPolicy, {"name": plain_name(name, "a policy", "name")})


def _write_policy(
    verb: str, policy: TimeoutPolicy, flags: NLM_F, hints: Mapping[int, str]
) -> Request:
    sent = copy(policy)
    sent.use = None
    return _request(
        verb, _subject_of(policy.name), IPCTNL_MSG_TIMEOUT.NEW, encode(sent), hints, int(flags)
    )


def _checked_policy(policy: TimeoutPolicy) -> TimeoutPolicy:
    """Return the policy with plain values.

    :raises EncodeError: when the kernel would refuse the policy, or when no rule could use it.
    """
    policy = as_argument(policy, TimeoutPolicy, "a policy must be a TimeoutPolicy")
    try:
        _name_attribute(policy.name)
    except TypeError as error:
        raise EncodeError(str(error), ("name",)) from None
    plain_family(policy.family)
    if policy.timeouts is not None:
        protocol_of(type(policy.timeouts), policy.proto)
        _check_timeouts(policy.timeouts)
    elif not any(kept.path[:1] == (CTA_TIMEOUT.DATA,) for kept in policy.unknown):
        raise EncodeError("a policy needs timeouts, such as TCPTimeouts()", ("timeouts",))
    return policy


def _check_changes(timeouts: ProtocolTimeouts) -> None:
    if not _present_timeouts(timeouts):
        raise EncodeError("an update that changes nothing", ("timeouts",))
    _check_timeouts(timeouts)


def _check_timeouts(timeouts: ProtocolTimeouts) -> None:
    for name, value in _present_timeouts(timeouts).items():
        check_seconds(value, ("timeouts", name))


def _present_timeouts(timeouts: ProtocolTimeouts) -> dict[str, object]:
    """Return the timeouts that are not ``None``, by name."""
    names = [field.name for field in schema_of(type(timeouts)).fields]
    values = {name: getattr(timeouts, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
