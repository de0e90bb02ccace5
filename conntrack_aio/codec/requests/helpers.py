"""Requests about user-space helpers: subsystem ``NFNL_SUBSYS_CTHELPER``.

The kernel's traps closed here (``nfnetlink_cthelper.c``): a delete that names nothing deletes all,
so every other one names the whole key; an update of what is not there makes it, unless it leaves
out what only a new one needs; of a queue's number 16 bits count.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from socket import AF_INET, AF_INET6
from types import MappingProxyType
from typing import Final

from ...errors import EncodeError
from ...model.enums import HelperStatus
from ...model.helpers import ExpectPolicy, UserspaceHelper
from ...model.protocols import PROTOCOL_NAMES
from ...model.values import describe_value, plain_number
from ...netlink.exchange import Request
from ...uapi.netlink import NLM_F
from ...uapi.nfnetlink import NFNL_SUBSYS
from ...uapi.nfnetlink_cthelper import NFNL_MSG_CTHELPER
from ..reference import encode_fields
from .common import (
    as_argument,
    check_seconds,
    dump_all,
    plain_family,
    plain_name,
    request,
)

Key = tuple[str, int, int]
"""What identifies a helper: name, family and protocol."""

MOST_EXPECTATIONS: Final = 255
"""``NF_CT_EXPECT_MAX_CNT``."""
MOST_PRIVATE_DATA: Final = 32
"""Of ``struct nf_conn_help``."""
LAST_QUEUE: Final = 0xFFFF
"""``NF_QUEUE_NR`` takes no more."""

_PERMISSION = (
    "Helpers are the machine's, not the network namespace's: this needs CAP_NET_ADMIN in the "
    "initial user namespace, which root of a container does not have"
)
_MISSING = (
    "This kernel was built without user-space helpers (CONFIG_NF_CT_NETLINK_HELPER), or their "
    "module can't be loaded"
)
UNKNOWN: Final = "There is no user-space helper of that name for that family and protocol"
_HINTS: Mapping[int, str] = MappingProxyType(
    {errno.EPERM: _PERMISSION, errno.EOPNOTSUPP: _MISSING, errno.ENOENT: UNKNOWN}
)
_HINTS_CREATE: Mapping[int, str] = MappingProxyType(
    {
        **_HINTS,
        errno.EEXIST: "There is such a helper; update() changes it",
        errno.EBUSY: "A helper inside the kernel has that name, family and protocol",
    }
)
_HINTS_UPDATE: Mapping[int, str] = MappingProxyType(
    {
        **_HINTS,
        errno.EBUSY: "A helper keeps the number, the order and the names of its policies: delete "
        "it and create it anew",
    }
)
_HINTS_DELETE: Mapping[int, str] = MappingProxyType(
    {**_HINTS, errno.EBUSY: "A rule or a connection has it"}
)


def _request(
    verb: str,
    subject: object,
    message: NFNL_MSG_CTHELPER,
    attributes: bytes = b"",
    *,
    hints: Mapping[int, str] = _HINTS,
    flags: int = 0,
) -> Request:
    subsystem = NFNL_SUBSYS.CTHELPER
    return request(verb, subject, subsystem, message, attributes, flags=flags, hints=hints)


def dump() -> Request:
    """Read all helpers: here the kernel looks at no filter (``nfnl_cthelper_dump_table``)."""
    return dump_all("user-space helpers", NFNL_SUBSYS.CTHELPER, NFNL_MSG_CTHELPER.GET, _HINTS)


def get(key: Key) -> Request:
    """Read one helper. If there is none the answer is empty.

    Raises :exc:`TypeError` for a name that is no text, and :exc:`EncodeError`.
    """
    attributes = encode_fields(UserspaceHelper, _identity(key))
    return _request("get", _named(key), NFNL_MSG_CTHELPER.GET, attributes)


def delete(key: Key) -> Request:
    """Delete one helper. Raises :exc:`EncodeError`."""
    attributes = encode_fields(UserspaceHelper, _identity(key))
    return _request("delete", _named(key), NFNL_MSG_CTHELPER.DEL, attributes, hints=_HINTS_DELETE)


def flush() -> Request:
    """Delete every helper that nothing has. The only request without a key that deletes."""
    return _request("flush", "user-space helpers", NFNL_MSG_CTHELPER.DEL, hints=_HINTS_DELETE)


def create(helper: UserspaceHelper) -> Request:
    """Make a new helper, never change one that is there. Raises :exc:`EncodeError`."""
    helper = as_argument(helper, UserspaceHelper, "a helper is made of a UserspaceHelper")
    values = _identity(helper.key, of=EncodeError)
    plain_family(helper.family)
    if not helper.policies:
        raise EncodeError("a helper has at least one", ("policies",))
    length = 0 if helper.private_data_length is None else helper.private_data_length
    _check_most(length, MOST_PRIVATE_DATA, ("private_data_length",))
    values["private_data_length"] = length
    values |= _settings(helper.queue, helper.policies, helper.status)
    return _request(
        "create",
        _named(helper.key),
        NFNL_MSG_CTHELPER.NEW,
        encode_fields(UserspaceHelper, values),
        hints=_HINTS_CREATE,
        flags=int(NLM_F.CREATE | NLM_F.EXCL),
    )


def update(
    key: Key,
    queue: int | None,
    policies: Sequence[ExpectPolicy] | None,
    status: HelperStatus | None,
) -> Request:
    """Change what is told. Raises :exc:`EncodeError`.

    The length of the private data, which can't change, is left out: without it the kernel does not
    take the request for one of a new helper.
    """
    values = _identity(key)
    changes = _settings(queue, policies, status)
    if all(value is None for value in changes.values()):
        raise EncodeError("an update that changes nothing")
    if policies is not None and not policies:
        raise EncodeError("a helper has at least one", ("policies",))
    if len({(each.expect_max, each.expect_timeout) for each in policies or ()}) > 1:
        raise EncodeError(
            "an update gives all classes the limits of the first: give them all the same, or "
            "delete the helper and make it again",
            ("policies",),
        )
    attributes = encode_fields(UserspaceHelper, values | changes)
    return _request("update", _named(key), NFNL_MSG_CTHELPER.NEW, attributes, hints=_HINTS_UPDATE)


def _named(key: Key) -> str:
    name, family, proto = key
    family, proto = plain_number(family, "family"), plain_number(proto, "proto")
    version = {int(AF_INET): "IPv4", int(AF_INET6): "IPv6"}.get(family, f"family {family}")
    return f"helper {name!r} ({PROTOCOL_NAMES.get(proto, proto)}, {version})"


def _identity(key: Key, of: type[Exception] = TypeError) -> dict[str, object]:
    """What the kernel finds a helper by: all of it.

    Raises :exc:`EncodeError` for less, and ``of`` for a name that is no text.
    """
    values: dict[str, object] = dict(zip(("name", "family", "proto"), key, strict=True))
    for name, value in values.items():
        if value is None:
            raise EncodeError("a helper is found by its name, family and protocol", (name,))
    try:
        values["name"] = plain_name(key[0], "a helper", "name")
    except TypeError as error:
        if of is TypeError:
            raise
        raise EncodeError(str(error), ("name",)) from None
    values["family"] = plain_number(key[1], "family")
    values["proto"] = plain_number(key[2], "proto")
    return values


def _settings(
    queue: int | None, policies: Sequence[ExpectPolicy] | None, status: HelperStatus | int | None
) -> dict[str, object]:
    """What may change of a helper. Raises :exc:`EncodeError` for what the kernel would not take."""
    _check_most(queue, LAST_QUEUE, ("queue",))
    if status is not None and plain_number(status, "status") not in tuple(HelperStatus):
        raise EncodeError(f"{describe_value(status)} is no HelperStatus", ("status",))
    told = None
    if policies is not None:
        try:
            told = tuple(policies)
        except Exception:
            raise EncodeError(
                f"{describe_value(policies)} is not a sequence of ExpectPolicy", ("policies",)
            ) from None
    for index, policy in enumerate(told or ()):
        path = ("policies", str(index))
        if isinstance(policy, ExpectPolicy):  # pyright: ignore[reportUnnecessaryIsInstance]
            _check_most(policy.expect_max, MOST_EXPECTATIONS, (*path, "expect_max"))
            check_seconds(policy.expect_timeout, (*path, "expect_timeout"))
    return {"queue": queue, "policies": told, "status": status}


def _check_most(value: object, most: int, path: tuple[str, ...]) -> None:
    if value is not None and (number := plain_number(value, *path)) > most:
        raise EncodeError(f"{describe_value(number)} is more than {most}", path)
