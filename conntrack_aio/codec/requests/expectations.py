"""Requests about expectations: subsystem ``NFNL_SUBSYS_CTNETLINK_EXP``.

Rules of the kernel that this module deals with (``ctnetlink_del_expect``, ``ctnetlink_get_expect``,
``ctnetlink_new_expect``):

- A delete without a tuple and without the name of a helper is a flush, even with a master or an id.
- A look-up takes a master for the expectation's own tuple, so none is sent.
- An update creates an expectation if its flags allow it.
- A timeout is multiplied by the ticks per second, in 32 bits.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from socket import AF_UNSPEC
from types import MappingProxyType
from typing import Final

from ...errors import EncodeError
from ...model.enums import Direction, ExpectFlags
from ...model.expectations import ALL_ONES, Expectation, ExpectNAT
from ...model.normalization import raw
from ...model.requests import ExpectRequestOnly
from ...model.tuples import Tuple
from ...model.values import describe_value, plain_number
from ...netlink.exchange import Request
from ...uapi.netlink import NLM_F
from ...uapi.nfnetlink import NFNL_SUBSYS
from ...uapi.nfnetlink_conntrack import IPCTNL_MSG_EXP
from ..reference import encode_fields
from .common import as_argument, plain_family, plain_id, plain_name, wrong_kind
from .request import ABSENT, NO_HINTS, request
from .targets import Target, lookup

ExpectTarget = Expectation | Tuple

SETTABLE: Final = ExpectFlags.PERMANENT | ExpectFlags.INACTIVE
"""The flags that a new expectation may have."""

MAX_TIMEOUT: Final = 0xFFFFFFFF // 1000
"""Seconds, about 49 days: with more a kernel with 1000 ticks per second would overflow."""

_CREATE = int(NLM_F.CREATE | NLM_F.EXCL)
_DUMP = int(NLM_F.DUMP)

_HINTS_LOOKUP: Mapping[int, str] = MappingProxyType(
    {
        errno.ENOENT: "There is no such expectation: it may have been met or have expired. One "
        "whose master is in a zone is found only with the zone",
        errno.ETIME: "The expectation has just expired",
    }
)
_NO_MASTER = "There is no such flow. A flow in a zone is found only with its zone"
_ABSENCE: Mapping[int, str] = MappingProxyType(
    {errno.EOPNOTSUPP: "This kernel has no expectations (NFNL_SUBSYS_CTNETLINK_EXP)"}
)
_HINTS_DUMP: Mapping[int, str] = MappingProxyType({errno.ENOENT: _NO_MASTER})
_HINTS_CREATE: Mapping[int, str] = MappingProxyType(
    {
        errno.ENOENT: f"The master is missing. {_NO_MASTER}",
        errno.EOPNOTSUPP: "The master has no helper (a rule or create() assigns one to a new "
        "flow), or this kernel has no helper of the given name",
        errno.ESHUTDOWN: "The master has lost its helper",
        errno.EEXIST: "There is an expectation with this tuple; update() changes its timeout",
        errno.EALREADY: "There is such an expectation, of another master or another class",
        errno.EBUSY: "Its mask overlaps with that of another expectation",
        errno.EMFILE: "There are net.netfilter.nf_conntrack_expect_max expectations, the limit",
        errno.EINVAL: "This kernel has no function of this name, or the helper has no such class",
    }
)


def _request(
    verb: str,
    subject: object,
    message: IPCTNL_MSG_EXP,
    attributes: bytes = b"",
    *,
    flags: int = 0,
    family: int = AF_UNSPEC,
    hints: Mapping[int, str] = NO_HINTS,
) -> Request:
    subsystem = NFNL_SUBSYS.CTNETLINK_EXP
    return request(
        verb, subject, subsystem, message, attributes, flags=flags, family=family, hints=hints
    )


def _encode(values: Mapping[str, object], zone: int | None) -> bytes:
    return encode_fields(Expectation, values) + encode_fields(ExpectRequestOnly, {"zone": zone})


def tuple_of(target: ExpectTarget) -> Tuple:
    """Return the tuple by which the kernel finds a target.

    :raises TypeError: when the target is neither an :class:`Expectation` nor a :class:`Tuple`.
    :raises EncodeError: when the tuple is incomplete, or when a value is not valid.
    """
    if issubclass(type(target), Tuple):
        return _checked_tuple(target)
    wanted = "a target must be an Expectation, or the Tuple of one"
    return _checked_tuple(as_argument(target, Expectation, wanted).tuple, "tuple")


def id_of(target: ExpectTarget) -> int | None:
    """Return the id of the expectation that a target means; ``None`` if any will do.

    :raises EncodeError: when the id of the target is not valid.
    """
    return plain_id(target.id) if isinstance(target, Expectation) else None


def _checked_tuple(tuple_: object, *path: str) -> Tuple:
    """Return a tuple with plain values.

    :raises EncodeError: when the tuple is incomplete or has a zone.
    """
    if not issubclass(type(tuple_), Tuple):
        raise EncodeError(f"{describe_value(tuple_)} is not a Tuple", path)
    try:
        plain = as_argument(tuple_, Tuple, "")
        plain.require_complete()
    except EncodeError as error:
        raise EncodeError(error.reason, (*path, *error.path)) from None
    if plain.zone is not None:
        raise EncodeError(
            "a tuple with a zone is refused here; pass the zone of the master as zone=",
            (*path, "zone"),
        )
    return plain


def get(tuple_: Tuple, zone: int | None = None, verb: str = "get") -> Request:
    """Return the request that reads the expectation which a packet with this tuple would meet.

    The own tuple of an expectation finds it: the mask of another one that let this tuple in would
    overlap with it, and the kernel has no two that overlap (``expect_clash``).

    :raises EncodeError: when the tuple is incomplete.
    """
    if not issubclass(type(tuple_), Tuple):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise wrong_kind(tuple_, "a packet must be a Tuple")
    tuple_ = _checked_tuple(tuple_)
    return _request(
        f"{verb} expectation",
        tuple_,
        IPCTNL_MSG_EXP.GET,
        _encode({"tuple": tuple_}, zone),
        family=tuple_.family,
        hints=_HINTS_LOOKUP,
    )


def dump(family: int = AF_UNSPEC) -> Request:
    """Return the request that dumps the expectations, or those of one family.

    :raises EncodeError: when it is another family.
    """
    family = plain_family(family, AF_UNSPEC)
    message = IPCTNL_MSG_EXP.GET
    encoded = _request(
        "dump", "the expectations", message, flags=_DUMP, family=family, hints=_ABSENCE
    )
    # Without attributes EINVAL can only mean that the subsystem is missing.
    return encoded._replace(meanings=ABSENT)


def dump_of(master: Target, zone: int | None = None) -> Request:
    """Return the request that dumps the expectations of one flow.

    :raises EncodeError: when the tuple is incomplete.
    """
    try:
        found, zone = lookup(master, zone)
    except EncodeError as error:
        raise EncodeError(error.reason, ("master", *error.path)) from None
    return _request(
        "dump the expectations of",
        found,
        IPCTNL_MSG_EXP.GET,
        _encode({"master": found}, zone),
        flags=_DUMP,
        family=found.family,
        hints=_HINTS_DUMP,
    )


def create(expectation: Expectation, helper: str | None = None, zone: int | None = None) -> Request:
    """Return the request that creates an expectation, and never changes one that exists.

    The timeout is not part of it: the kernel accepts a timeout only in an update.

    :raises EncodeError: when a field holds no valid value.
    """
    wanted = "an expectation is created from an Expectation"
    expectation = as_argument(expectation, Expectation, wanted)
    _checked_tuple(expectation.master, "master")
    _checked_tuple(expectation.tuple, "tuple")
    if expectation.tuple.family != expectation.master.family:
        raise EncodeError("its addresses must have the family of its master", ("tuple",))
    values = {
        "master": expectation.master,
        "tuple": expectation.tuple,
        "mask": _sent_mask(expectation),
        "flags": _created_flags(expectation.flags),
        "expect_class": expectation.expect_class,
        "nat": _created_nat(expectation),
        "function": expectation.function,
        "helper": helper,
    }
    return _request(
        "create expectation",
        expectation.tuple,
        IPCTNL_MSG_EXP.NEW,
        _encode(values, zone),
        flags=_CREATE,
        family=expectation.tuple.family,
        hints=_HINTS_CREATE,
    )


def _sent_mask(expectation: Expectation) -> Tuple:
    """Return the mask as the kernel reads it.

    The kernel requires a complete tuple and keeps only the source. So every other field must have
    the value that the kernel applies anyway: all ones. In ICMP it requires a type that exists, and
    reports 255.

    :raises EncodeError: when the kernel would not apply the mask.
    """
    tuple_, mask = expectation.tuple, expectation.mask
    _checked_tuple(mask, "mask")
    if type(mask.src) is not type(tuple_.src):
        raise EncodeError("its addresses must have the family of the tuple", ("mask",))
    if mask.proto != tuple_.proto:
        raise EncodeError("its protocol must be that of the tuple", ("mask", "proto"))
    whole = {"dst": ALL_ONES[type(mask.dst)], "dport": 0xFFFF, "icmp_type": 0xFF, "icmp_code": 0xFF}
    for name, ones in whole.items():
        if getattr(tuple_, name) is not None and getattr(mask, name) != ones:
            raise EncodeError(
                f"the kernel always compares it whole, so it must be {ones}", ("mask", name)
            )
    return raw(Tuple)(
        src=mask.src,
        dst=mask.dst,
        proto=mask.proto,
        sport=mask.sport,
        dport=mask.dport,
        icmp_id=mask.icmp_id,
        icmp_type=tuple_.icmp_type,
        icmp_code=mask.icmp_code,
    )


def _created_flags(flags: ExpectFlags | None) -> ExpectFlags | None:
    """Return the flags to send, without USERSPACE, which the kernel drops.

    :raises EncodeError: when bits are unknown, which some kernels would store.
    """
    if flags is None:
        return None
    number = plain_number(flags, "flags")
    unknown = number & ~sum(ExpectFlags)
    if unknown:
        raise EncodeError(f"unknown flags {unknown:#x}", ("flags",))
    return ExpectFlags(number) & SETTABLE


def _created_nat(expectation: Expectation) -> ExpectNAT | None:
    nat = expectation.nat
    if nat is None:
        return None
    if not isinstance(nat, ExpectNAT):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise EncodeError(f"{describe_value(nat)} is not an ExpectNAT", ("nat",))
    _checked_tuple(nat.tuple, "nat", "tuple")
    if nat.tuple.family != expectation.master.family:
        raise EncodeError("its addresses must have the family of the master", ("nat", "tuple"))
    if plain_number(nat.direction, "nat", "direction") not in tuple(Direction):
        raise EncodeError(
            f"{describe_value(nat.direction)} is not a direction", ("nat", "direction")
        )
    return nat


def update(found: Expectation, timeout: int, zone: int | None = None) -> Request:
    """Return the request that makes an expectation expire after ``timeout`` seconds.

    The kernel finds it by its tuple. It requires the master and the mask and does not compare them.
    Without NLM_F_CREATE it never creates an expectation.

    :param found: the expectation as the kernel reported it.
    :param timeout: the new timeout in seconds.
    :param zone: the zone of the master.

    :raises EncodeError: when the timeout is out of range.
    """
    timeout = check_timeout(timeout)
    values = {
        "master": found.master,
        "tuple": found.tuple,
        "mask": found.mask,
        "timeout": timeout,
    }
    return _request(
        "update expectation",
        found.tuple,
        IPCTNL_MSG_EXP.NEW,
        _encode(values, zone),
        family=found.tuple.family,
        hints=_HINTS_LOOKUP,
    )


def check_timeout(timeout: int) -> int:
    """Check a timeout, and return its plain number of seconds.

    :raises EncodeError: when the number is out of the range that the kernel can count.
    """
    seconds = plain_number(timeout, "timeout")
    if not 0 <= seconds <= MAX_TIMEOUT:
        shown = describe_value(seconds)
        raise EncodeError(f"{shown} is not in the range from 0 to {MAX_TIMEOUT}", ("timeout",))
    return seconds


def delete(tuple_: Tuple, id: int | None, zone: int | None = None) -> Request:
    """Return the request that deletes the expectation with this tuple, if it has this id.

    :raises EncodeError: when the tuple is incomplete.
    """
    tuple_ = _checked_tuple(tuple_)
    return _request(
        "delete expectation",
        tuple_,
        IPCTNL_MSG_EXP.DELETE,
        _encode({"tuple": tuple_, "id": id}, zone),
        family=tuple_.family,
        hints=_HINTS_LOOKUP,
    )


def delete_by_helper(name: str) -> Request:
    """Return the request that deletes the expectations of all flows with this helper.

    :raises EncodeError: when the name cannot be that of a helper.
    """
    name = plain_name(name, "a helper", "helper")
    return _request(
        "delete the expectations of helper",
        name,
        IPCTNL_MSG_EXP.DELETE,
        encode_fields(Expectation, {"helper": name}),
    )


def flush() -> Request:
    """Return the request that deletes every expectation of the namespace."""
    return _request("flush", "the expectations", IPCTNL_MSG_EXP.DELETE)


def cpu_statistics() -> Request:
    """Return the request that reads the counters of each processor."""
    message = IPCTNL_MSG_EXP.GET_STATS_CPU
    return _request("read", "the statistics of expectations", message, flags=_DUMP)
