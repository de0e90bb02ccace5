"""Requests about expectations: subsystem ``NFNL_SUBSYS_CTNETLINK_EXP``.

The kernel's traps closed here (``ctnetlink_del_expect``, ``ctnetlink_get_expect``,
``ctnetlink_new_expect``): a delete without a tuple or a helper's name is a flush, even with a
master or an id; a lookup by master takes it for the expectation's own tuple, so none is sent; an
update creates where its flags allow; a timeout is multiplied by the ticks of a second, in 32 bits.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from socket import AF_UNSPEC
from types import MappingProxyType
from typing import Final

from ...errors import EncodeError
from ...model.declare import raw
from ...model.enums import Direction, ExpectFlags
from ...model.expectations import ALL_ONES, Expectation, ExpectNAT
from ...model.requests import ExpectRequestOnly
from ...model.tuples import Tuple
from ...model.values import describe_value, plain_number
from ...netlink.exchange import Request
from ...uapi.netlink import NLM_F
from ...uapi.nfnetlink import NFNL_SUBSYS
from ...uapi.nfnetlink_conntrack import IPCTNL_MSG_EXP
from ..reference import encode_fields
from .common import (
    ABSENT,
    NO_HINTS,
    as_argument,
    plain_family,
    plain_id,
    plain_name,
    request,
    wrong_kind,
)
from .targets import Target, lookup

ExpectTarget = Expectation | Tuple

SETTABLE: Final = ExpectFlags.PERMANENT | ExpectFlags.INACTIVE
"""The flags that a new expectation may have."""

MAX_TIMEOUT: Final = 0xFFFFFFFF // 1000
"""Seconds, some 49 days: with more a kernel of 1,000 ticks a second would begin at 0 again."""

_CREATE = int(NLM_F.CREATE | NLM_F.EXCL)
_DUMP = int(NLM_F.DUMP)

_HINTS_LOOKUP: Mapping[int, str] = MappingProxyType(
    {
        errno.ENOENT: "There is no such expectation: it may have been met or have expired; one "
        "whose master is in a zone is found only with its zone",
        errno.ETIME: "The expectation has just expired",
    }
)
_NO_MASTER = "There is no such flow; one in a zone is found only with its zone"
_ABSENCE: Mapping[int, str] = MappingProxyType(
    {errno.EOPNOTSUPP: "This kernel keeps no expectations (NFNL_SUBSYS_CTNETLINK_EXP)"}
)
_HINTS_DUMP: Mapping[int, str] = MappingProxyType({errno.ENOENT: _NO_MASTER})
_HINTS_CREATE: Mapping[int, str] = MappingProxyType(
    {
        errno.ENOENT: f"It has no master. {_NO_MASTER}",
        errno.EOPNOTSUPP: "Its master has no helper (a rule or create() gives one to a new flow), "
        "or this kernel has no helper of the name that was given",
        errno.ESHUTDOWN: "Its master has lost its helper",
        errno.EEXIST: "A connection with its tuple is expected already; update() changes the "
        "timeout",
        errno.EALREADY: "It is expected already, by another master or as of another class",
        errno.EBUSY: "A connection that would meet it is expected already: their masks overlap",
        errno.EMFILE: "As many expectations exist as may (net.netfilter.nf_conntrack_expect_max)",
        errno.EINVAL: "This kernel has no function of that name, or the helper no such class",
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
    """Return the tuple that finds the target.

    :raises TypeError: for what is neither an Expectation nor a Tuple.
    :raises EncodeError: for a tuple that is incomplete or can't be.
    """
    if issubclass(type(target), Tuple):
        return _check_tuple(target)
    wanted = "a target is an Expectation, or its own Tuple"
    return _check_tuple(as_argument(target, Expectation, wanted).tuple, "tuple")


def id_of(target: ExpectTarget) -> int | None:
    """Return the id of the expectation that a target stands for; ``None`` if any will do.

    Raises :exc:`EncodeError` for what can't be one.
    """
    return plain_id(target.id) if isinstance(target, Expectation) else None


def _check_tuple(tuple_: object, *path: str) -> Tuple:
    """Return a tuple with plain values.

    Raises :exc:`EncodeError` for one that is incomplete, or that has a zone.
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
            "the kernel refuses it here: the verbs take the zone, which is the master's",
            (*path, "zone"),
        )
    return plain


def get(tuple_: Tuple, zone: int | None = None, verb: str = "get") -> Request:
    """Read the expectation that a packet with this tuple would meet. Raises :exc:`EncodeError`.

    An expectation's own tuple finds itself: one whose mask let another's tuple in would overlap
    with that, and the kernel has no two that do (``expect_clash``).
    """
    if not issubclass(type(tuple_), Tuple):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise wrong_kind(tuple_, "a packet is a Tuple")
    tuple_ = _check_tuple(tuple_)
    return _request(
        f"{verb} expectation",
        tuple_,
        IPCTNL_MSG_EXP.GET,
        _encode({"tuple": tuple_}, zone),
        family=tuple_.family,
        hints=_HINTS_LOOKUP,
    )


def dump(family: int = AF_UNSPEC) -> Request:
    """Read the table, or what is of one family. Raises :exc:`EncodeError`."""
    family = plain_family(family, AF_UNSPEC)
    message = IPCTNL_MSG_EXP.GET
    made = _request("dump", "the expectations", message, flags=_DUMP, family=family, hints=_ABSENCE)
    # Without attributes, EINVAL can mean nothing else.
    return made._replace(meanings=ABSENT)


def dump_of(master: Target, zone: int | None = None) -> Request:
    """Read the expectations of one flow. Raises :exc:`EncodeError`."""
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
    """Make a new expectation, never change one that is there. Raises :exc:`EncodeError`.

    The timeout is no part of it: the kernel takes one in an update alone.
    """
    wanted = "a new expectation is made of an Expectation"
    expectation = as_argument(expectation, Expectation, wanted)
    _check_tuple(expectation.master, "master")
    _check_tuple(expectation.tuple, "tuple")
    if expectation.tuple.family != expectation.master.family:
        raise EncodeError("its addresses are not of its master's family", ("tuple",))
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
    """The mask as the kernel reads it. Raises :exc:`EncodeError`.

    It wants the whole of a tuple, and keeps the source alone: what is said of the rest must be
    what holds. Of ICMP it wants a type that exists, and tells 255.
    """
    tuple_, mask = expectation.tuple, expectation.mask
    _check_tuple(mask, "mask")
    if type(mask.src) is not type(tuple_.src):
        raise EncodeError("its addresses are not of the tuple's family", ("mask",))
    if mask.proto != tuple_.proto:
        raise EncodeError("its protocol is not the tuple's", ("mask", "proto"))
    whole = {"dst": ALL_ONES[type(mask.dst)], "dport": 0xFFFF, "icmp_type": 0xFF, "icmp_code": 0xFF}
    for name, ones in whole.items():
        if getattr(tuple_, name) is not None and getattr(mask, name) != ones:
            raise EncodeError(f"it is always compared whole, so it is {ones}", ("mask", name))
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
    """Without USERSPACE, which the kernel drops. It would keep bits that nobody knows."""
    if flags is None:
        return None
    number = plain_number(flags, "flags")
    unknown = number & ~sum(ExpectFlags)
    if unknown:
        raise EncodeError(f"there are no flags {unknown:#x}", ("flags",))
    return ExpectFlags(number) & SETTABLE


def _created_nat(expectation: Expectation) -> ExpectNAT | None:
    nat = expectation.nat
    if nat is None:
        return None
    if not isinstance(nat, ExpectNAT):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise EncodeError(f"{describe_value(nat)} is not an ExpectNAT", ("nat",))
    _check_tuple(nat.tuple, "nat", "tuple")
    if nat.tuple.family != expectation.master.family:
        raise EncodeError("its addresses are not of the master's family", ("nat", "tuple"))
    if plain_number(nat.direction, "nat", "direction") not in tuple(Direction):
        raise EncodeError(
            f"{describe_value(nat.direction)} is not a direction", ("nat", "direction")
        )
    return nat


def update(found: Expectation, timeout: int, zone: int | None = None) -> Request:
    """Have an expectation expire after ``timeout`` seconds; it must be as the kernel told it.

    The kernel finds it by its tuple, and wants to hear its master and mask without looking at
    them. Without NLM_F_CREATE it never makes one. Raises :exc:`EncodeError`.
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
    """Return the plain number.

    Raises :exc:`EncodeError` for what the kernel would take for another one.
    """
    seconds = plain_number(timeout, "timeout")
    if not 0 <= seconds <= MAX_TIMEOUT:
        shown = describe_value(seconds)
        raise EncodeError(f"{shown} is not in the range from 0 to {MAX_TIMEOUT}", ("timeout",))
    return seconds


def delete(tuple_: Tuple, id: int | None, zone: int | None = None) -> Request:
    """Delete the expectation that the tuple finds, if it has this id. Raises :exc:`EncodeError`."""
    tuple_ = _check_tuple(tuple_)
    return _request(
        "delete expectation",
        tuple_,
        IPCTNL_MSG_EXP.DELETE,
        _encode({"tuple": tuple_, "id": id}, zone),
        family=tuple_.family,
        hints=_HINTS_LOOKUP,
    )


def delete_by_helper(name: str) -> Request:
    """Delete the expectations of all flows with this helper. Raises :exc:`EncodeError`."""
    name = plain_name(name, "a helper", "helper")
    return _request(
        "delete the expectations of helper",
        name,
        IPCTNL_MSG_EXP.DELETE,
        encode_fields(Expectation, {"helper": name}),
    )


def flush() -> Request:
    """Delete every expectation of the namespace."""
    return _request("flush", "the expectations", IPCTNL_MSG_EXP.DELETE)


def cpu_statistics() -> Request:
    """Read what each processor counted."""
    message = IPCTNL_MSG_EXP.GET_STATS_CPU
    return _request("read", "the statistics of expectations", message, flags=_DUMP)
