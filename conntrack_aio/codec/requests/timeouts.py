"""Requests about timeout policies: subsystem ``NFNL_SUBSYS_CTNETLINK_TIMEOUT``.

The kernel's traps closed here (``nfnetlink_cttimeout.c``): a delete without a name is one of all
policies, so there is none; a replacement resets what it does not name to the namespace's defaults;
seconds become ticks without a look at whether they fit.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from copy import copy
from socket import AF_INET, AF_INET6
from types import MappingProxyType
from typing import Final

from ...errors import EncodeError
from ...model.timeouts import ProtocolTimeouts, TimeoutPolicy, protocol_of
from ...netlink.exchange import Request
from ...uapi.netlink import NLM_F
from ...uapi.nfnetlink import NFNL_SUBSYS
from ...uapi.nfnetlink_cttimeout import CTA_TIMEOUT, IPCTNL_MSG_TIMEOUT
from ..reference import encode, encode_fields
from ..schema import schema_of
from .common import NO_HINTS, dump_all, request

LONGEST: Final = ((1 << 31) - 1) // 1000
"""The longest timeout, in seconds: 2,147,483, some 24 days.

The kernel multiplies by its ticks a second and keeps 32 bits; an entry that has 2^31 ticks or more
to live is taken for one that expired (``nf_ct_is_expired``). How many ticks a second has, up to
1000, is the kernel's own affair, so this fits them all.
"""

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


def create(policy: TimeoutPolicy) -> Request:
    """Make a new policy, never change one that is there. Raises :exc:`EncodeError`."""
    return _write("create", policy, NLM_F.CREATE | NLM_F.EXCL, _HINTS_CREATE)


def replace(policy: TimeoutPolicy, verb: str = "replace") -> Request:
    """Make a policy, or give the one of its name these timeouts. Raises :exc:`EncodeError`."""
    return _write(verb, policy, NLM_F.CREATE | NLM_F.REPLACE, _HINTS_REPLACE)


def get_defaults(kind: type[ProtocolTimeouts], protocol: int | None) -> Request:
    """Read a protocol's defaults. Raises :exc:`EncodeError`."""
    number = protocol_of(kind, protocol)
    attributes = encode_fields(TimeoutPolicy, {"family": AF_INET, "protocol": number})
    subject = f"{kind.__name__} by default"
    return _request("get", subject, IPCTNL_MSG_TIMEOUT.DEFAULT_GET, attributes, _HINTS_DEFAULTS)


def set_defaults(timeouts: ProtocolTimeouts, protocol: int | None) -> Request:
    """Change those of a protocol's defaults that are told. Raises :exc:`EncodeError`.

    The family is only looked for, by kernels up to 6.8; the defaults are those of both.
    """
    number = protocol_of(type(timeouts), protocol)
    _check_timeouts(timeouts)
    values = {"family": AF_INET, "protocol": number, "timeouts": timeouts}
    attributes = encode_fields(TimeoutPolicy, values)
    subject = f"{type(timeouts).__name__} by default"
    return _request("set", subject, IPCTNL_MSG_TIMEOUT.DEFAULT_SET, attributes, _HINTS_DEFAULTS)


def updated(policy: TimeoutPolicy, timeouts: ProtocolTimeouts) -> TimeoutPolicy:
    """The policy, with those of its timeouts changed that are told. Raises :exc:`EncodeError`."""
    protocol_of(type(timeouts), policy.protocol)
    changed = copy(policy)
    changed.timeouts = copy(policy.timeouts or timeouts)
    for name, value in _told(timeouts).items():
        setattr(changed.timeouts, name, value)
    return changed


def _named(name: str) -> str:
    return f"timeout policy {name!r}"


def _name(name: str) -> bytes:
    """The kernel takes an empty one too, which nothing could use."""
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise EncodeError(f"a policy is found by its name, not by {name!r}", ("name",))
    if not name:
        raise EncodeError("it is empty", ("name",))
    return encode_fields(TimeoutPolicy, {"name": name})


def _write(verb: str, policy: TimeoutPolicy, flags: NLM_F, hints: Mapping[int, str]) -> Request:
    if not isinstance(policy, TimeoutPolicy):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise EncodeError(f"a policy is made of a TimeoutPolicy, not of {policy!r}")
    _name(policy.name)
    if policy.family not in (AF_INET, AF_INET6):
        raise EncodeError(f"{policy.family!r} is neither AF_INET nor AF_INET6", ("family",))
    kept = any(unknown.path[:1] == (CTA_TIMEOUT.DATA,) for unknown in policy.unknown)
    if policy.timeouts is not None:
        protocol_of(type(policy.timeouts), policy.protocol)
        _check_timeouts(policy.timeouts)
    elif not kept:
        raise EncodeError(
            "a new policy needs them; of none that is told it has the defaults", ("timeouts",)
        )
    sent = copy(policy)
    sent.use = None
    return _request(
        verb, _named(policy.name), IPCTNL_MSG_TIMEOUT.NEW, encode(sent), hints, int(flags)
    )


def _check_timeouts(timeouts: ProtocolTimeouts) -> None:
    for name, value in _told(timeouts).items():
        if isinstance(value, int) and value > LONGEST:
            raise EncodeError(
                f"{value} seconds are more than {LONGEST}; the kernel would let flows expire at "
                "once, or after a remainder",
                ("timeouts", name),
            )


def _told(timeouts: ProtocolTimeouts) -> dict[str, object]:
    """What is not absent, by the names of the fields."""
    names = [field.name for field in schema_of(type(timeouts)).fields]
    told = {name: getattr(timeouts, name) for name in names}
    return {name: value for name, value in told.items() if value is not None}
