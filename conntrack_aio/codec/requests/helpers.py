"""Requests about user-space helpers: subsystem ``NFNL_SUBSYS_CTHELPER``.

Rules of the kernel that this module deals with (``nfnetlink_cthelper.c``):

- A delete without any key deletes all helpers, so every other delete has the whole key.
- An update of a helper that does not exist creates it, unless it lacks what only a new helper
  needs.
- Of the number of a queue, 16 bits count.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from socket import AF_INET, AF_INET6
from types import MappingProxyType
from typing import Final, NamedTuple

from ...errors import EncodeError
from ...model.helpers import ExpectPolicy, HelperStatus, UserspaceHelper
from ...model.protocols import PROTOCOL_NAMES
from ...model.values import describe_value, plain_number
from ...netlink.exchange import Request
from ...uapi.netlink import NLM_F
from ...uapi.nfnetlink import NFNL_SUBSYS
from ...uapi.nfnetlink_cthelper import NFNL_MSG_CTHELPER
from ..reference import encode_fields
from .common import as_argument, check_seconds, plain_family, plain_name
from .request import dump_all, request

MAX_EXPECTATIONS: Final = 255
"""``NF_CT_EXPECT_MAX_CNT``."""
MAX_PRIVATE_DATA: Final = 32
"""Bytes in ``struct nf_conn_help``."""
MAX_QUEUE: Final = 0xFFFF
"""The largest number that ``NF_QUEUE_NR`` accepts."""

_PERMISSION = (
    "User-space helpers belong to the machine, not to a network namespace: this needs "
    "CAP_NET_ADMIN in the initial user namespace, which root in a container does not have"
)
_MISSING = (
    "This kernel was built without user-space helpers (CONFIG_NF_CT_NETLINK_HELPER), or their "
    "module cannot be loaded"
)
UNKNOWN: Final = "There is no user-space helper of this name, family and protocol"
_HINTS: Mapping[int, str] = MappingProxyType(
    {errno.EPERM: _PERMISSION, errno.EOPNOTSUPP: _MISSING, errno.ENOENT: UNKNOWN}
)
_HINTS_CREATE: Mapping[int, str] = MappingProxyType(
    {
        **_HINTS,
        errno.EEXIST: "There is a helper of this name, family and protocol; update() changes it",
        errno.EBUSY: "A helper inside the kernel has this name, family and protocol",
    }
)
_HINTS_UPDATE: Mapping[int, str] = MappingProxyType(
    {
        **_HINTS,
        errno.EBUSY: "The number, the order and the names of its policies cannot change: delete "
        "the helper and create it again",
    }
)
_HINTS_DELETE: Mapping[int, str] = MappingProxyType(
    {**_HINTS, errno.EBUSY: "A rule or a connection uses it"}
)


class HelperKey(NamedTuple):
    """What identifies a user-space helper."""

    name: str
    family: int
    """The address family of its connections: ``AF_INET`` or ``AF_INET6``."""
    proto: int
    """The number of the protocol of its connections."""


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
    """Return the request that dumps all helpers: the kernel ignores filters
    (``nfnl_cthelper_dump_table``).
    """
    return dump_all("user-space helpers", NFNL_SUBSYS.CTHELPER, NFNL_MSG_CTHELPER.GET, _HINTS)


def get(key: HelperKey) -> Request:
    """Return the request that reads one helper. If it does not exist, the kernel sends no reply.

    :raises TypeError: when the name is not text.
    :raises EncodeError: when no helper can have the key.
    """
    attributes = encode_fields(UserspaceHelper, _key_fields(key))
    return _request("get", _subject_of(key), NFNL_MSG_CTHELPER.GET, attributes)


def delete(key: HelperKey) -> Request:
    """Return the request that deletes one helper.

    :raises EncodeError: when no helper can have the key.
    """
    attributes = encode_fields(UserspaceHelper, _key_fields(key))
    return _request(
        "delete", _subject_of(key), NFNL_MSG_CTHELPER.DEL, attributes, hints=_HINTS_DELETE
    )


def flush() -> Request:
    """Return the request that deletes every helper that is not in use.

    It is the only delete without a key.
    """
    return _request("flush", "user-space helpers", NFNL_MSG_CTHELPER.DEL, hints=_HINTS_DELETE)


def create(helper: UserspaceHelper) -> Request:
    """Return the request that creates a helper, and never changes one that exists.

    :raises EncodeError: when a field holds no valid value.
    """
    helper = as_argument(helper, UserspaceHelper, "a helper must be a UserspaceHelper")
    key = HelperKey(*helper.key)
    values = _key_fields(key, name_error=EncodeError)
    plain_family(helper.family)
    if not helper.policies:
        raise EncodeError("a helper needs at least one policy", ("policies",))
    length = 0 if helper.private_data_length is None else helper.private_data_length
    _check_at_most(length, MAX_PRIVATE_DATA, ("private_data_length",))
    values["private_data_length"] = length
    values |= _changeable_fields(helper.queue, helper.policies, helper.status)
    return _request(
        "create",
        _subject_of(key),
        NFNL_MSG_CTHELPER.NEW,
        encode_fields(UserspaceHelper, values),
        hints=_HINTS_CREATE,
        flags=int(NLM_F.CREATE | NLM_F.EXCL),
    )


def update(
    key: HelperKey,
    queue: int | None,
    policies: Sequence[ExpectPolicy] | None,
    status: HelperStatus | None,
) -> Request:
    """Return the request that changes some values of a helper.

    It leaves out the length of the private data, which cannot change: without it, the kernel does
    not take the request for one that creates a helper.

    :raises EncodeError: when a value is not valid.
    """
    values = _key_fields(key)
    changes = _changeable_fields(queue, policies, status)
    if all(value is None for value in changes.values()):
        raise EncodeError("an update that changes nothing")
    if policies is not None and not policies:
        raise EncodeError("a helper needs at least one policy", ("policies",))
    if len({(each.expect_max, each.expect_timeout) for each in policies or ()}) > 1:
        raise EncodeError(
            "the kernel gives all classes the limits of the first: use the same limits, or "
            "delete the helper and create it again",
            ("policies",),
        )
    attributes = encode_fields(UserspaceHelper, values | changes)
    return _request(
        "update", _subject_of(key), NFNL_MSG_CTHELPER.NEW, attributes, hints=_HINTS_UPDATE
    )


def _subject_of(key: HelperKey) -> str:
    """Return the text by which errors name a helper."""
    family, proto = plain_number(key.family, "family"), plain_number(key.proto, "proto")
    version = {int(AF_INET): "IPv4", int(AF_INET6): "IPv6"}.get(family, f"family {family}")
    return f"helper {key.name!r} ({PROTOCOL_NAMES.get(proto, proto)}, {version})"


def _key_fields(key: HelperKey, name_error: type[Exception] = TypeError) -> dict[str, object]:
    """Return the fields that identify a helper.

    :param key: what identifies the helper.
    :param name_error: the class of the error for a name that is not text.

    :raises EncodeError: when the key is incomplete.
    """
    values: dict[str, object] = key._asdict()
    for name, value in values.items():
        if value is None:
            raise EncodeError(
                "a helper is identified by its name, family and protocol; give all three", (name,)
            )
    try:
        values["name"] = plain_name(key.name, "a helper", "name")
    except TypeError as error:
        if name_error is TypeError:
            raise
        raise EncodeError(str(error), ("name",)) from None
    values["family"] = plain_number(key.family, "family")
    values["proto"] = plain_number(key.proto, "proto")
    return values


def _changeable_fields(
    queue: int | None, policies: Sequence[ExpectPolicy] | None, status: HelperStatus | int | None
) -> dict[str, object]:
    """Return the fields of a helper that can change.

    :raises EncodeError: when the kernel would refuse a value.
    """
    _check_at_most(queue, MAX_QUEUE, ("queue",))
    if status is not None and plain_number(status, "status") not in tuple(HelperStatus):
        raise EncodeError(f"{describe_value(status)} is not a HelperStatus", ("status",))
    given = None
    if policies is not None:
        try:
            given = tuple(policies)
        except Exception:
            raise EncodeError(
                f"{describe_value(policies)} is not a sequence of ExpectPolicy", ("policies",)
            ) from None
    for index, policy in enumerate(given or ()):
        path = ("policies", str(index))
        if isinstance(policy, ExpectPolicy):  # pyright: ignore[reportUnnecessaryIsInstance]
            _check_at_most(policy.expect_max, MAX_EXPECTATIONS, (*path, "expect_max"))
            check_seconds(policy.expect_timeout, (*path, "expect_timeout"))
    return {"queue": queue, "policies": given, "status": status}


def _check_at_most(value: object, most: int, path: tuple[str, ...]) -> None:
    if value is not None and (number := plain_number(value, *path)) > most:
        raise EncodeError(f"{describe_value(number)} is above the maximum of {most}", path)
