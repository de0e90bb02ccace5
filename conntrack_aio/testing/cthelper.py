"""Handle the requests of nfnetlink's subsystem 9, user-space helpers (``nfnetlink_cthelper.c``).

- NEW without NLM_F_EXCL creates a helper that does not exist.
- GET with the tuple of no helper is acknowledged without a reply.
- DELETE succeeds if it deleted a helper, or if there were no helpers at all.
- A dump ignores the attributes of the request.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from typing import Final

from ..model.helpers import ExpectPolicy, UserspaceHelper
from ..netlink import nfnetlink
from ..netlink.attributes import pack, pack_be32, pack_nest, pack_text
from ..uapi.netlink import NLM_F
from ..uapi.nfnetlink import NFNL_SUBSYS
from ..uapi.nfnetlink_cthelper import (
    NFCTH,
    NFCTH_POLICY,
    NFCTH_POLICY_SET,
    NFCTH_TUPLE,
    NFNL_MSG_CTHELPER,
)
from . import releases
from .attributes import (
    NEST,
    U8,
    U16,
    U32,
    AttributeRule,
    Policy,
    Refused,
    number,
    parse_nest,
    text,
    u32,
)
from .protocol import Call, Handler, ListDump, Subsystem
from .releases import Release
from .state import State

_MSG: Final = NFNL_MSG_CTHELPER
_DUMP: Final = int(NLM_F.DUMP)
_EXCL: Final = int(NLM_F.EXCL)
_MAX_POLICIES: Final = 4
_MAX_EXPECTATIONS: Final = 255
_MAX_DATA: Final = 32

_NAME: Final = AttributeRule(text=True, max_length=15)
_POLICY: Final[Policy] = {
    NFCTH.NAME: _NAME,
    NFCTH.TUPLE: NEST,
    NFCTH.QUEUE_NUM: U32,
    NFCTH.POLICY: NEST,
    NFCTH.PRIV_DATA_LEN: U32,
    NFCTH.STATUS: U32,
}
_TUPLE_POLICY: Final[Policy] = {NFCTH_TUPLE.L3PROTONUM: U16, NFCTH_TUPLE.L4PROTONUM: U8}
_POLICY_SET_POLICY: Final[Policy] = {NFCTH_POLICY_SET.NUM: U32}
_EXPECT_POLICY_POLICY: Final[Policy] = {
    NFCTH_POLICY.NAME: _NAME,
    NFCTH_POLICY.EXPECT_MAX: U32,
    NFCTH_POLICY.EXPECT_TIMEOUT: U32,
}

Attributes = Mapping[int, bytes]


class UserspaceHelpers(Subsystem):
    """The subsystem that manages the machine's user-space helpers."""

    classes = (UserspaceHelper,)

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.handlers: Mapping[int, Handler] = {
            message: Handler(self._execute, NFCTH.STATUS, _POLICY) for message in _MSG
        }

    def verb(self, message: int, flags: int, payload: bytes) -> str:
        if message == _MSG.NEW:
            return "create helper" if flags & _EXCL else "update helper"
        if message == _MSG.GET:
            return "dump helpers" if flags & _DUMP else "get helper"
        return "delete helpers"

    def _execute(self, call: Call) -> None:
        """Execute a request; every one needs CAP_NET_ADMIN in the initial user namespace."""
        if "initial CAP_NET_ADMIN" in self.state.unavailable:
            raise Refused(errno.EPERM)
        if call.request.message == _MSG.NEW:
            self._new(call)
        elif call.request.message == _MSG.DEL:
            self._delete(call.attributes)
        else:
            self._get(call)

    def _matching(self, attributes: Attributes) -> Iterator[UserspaceHelper]:
        """Yield the helpers with the name, the tuple, or both, as the request has them."""
        name = text(attributes[NFCTH.NAME]) if NFCTH.NAME in attributes else None
        key = _tuple(attributes[NFCTH.TUPLE]) if NFCTH.TUPLE in attributes else None
        for helper in self.state.userspace_helpers:
            if name in (None, helper.name) and key in (None, (helper.family, helper.proto)):
                yield helper

    # -- reading ----------------------------------------------------------------------------

    def _get(self, call: Call) -> None:
        if call.request.is_dump:
            type_ = nfnetlink.message_type(NFNL_SUBSYS.CTHELPER, _MSG.NEW)
            payloads = [
                nfnetlink.pack(0) + _render(helper) for helper in self.state.userspace_helpers
            ]
            call.dump(lambda: ListDump(call, type_, payloads))
        found = next(self._matching(call.attributes), None)
        if found is not None:
            call.reply(_MSG.NEW, 0, _render(found))
        elif NFCTH.TUPLE not in call.attributes:
            raise Refused(errno.ENOENT)

    # -- writing ----------------------------------------------------------------------------

    def _new(self, call: Call) -> None:
        attributes = call.attributes
        if NFCTH.NAME not in attributes or NFCTH.TUPLE not in attributes:
            raise Refused(errno.EINVAL)
        found = next(self._matching(attributes), None)
        if found is None:
            self._create(attributes)
        elif call.request.flags & _EXCL:
            raise Refused(errno.EEXIST)
        else:
            _update(found, attributes, self.state.release)

    def _create(self, attributes: Attributes) -> None:
        if NFCTH.POLICY not in attributes or NFCTH.PRIV_DATA_LEN not in attributes:
            raise Refused(errno.EINVAL)
        policies = _parse_policies(attributes[NFCTH.POLICY])
        size = u32(attributes[NFCTH.PRIV_DATA_LEN])
        if size > _MAX_DATA:
            raise Refused(errno.ENOMEM)
        name, (family, proto) = text(attributes[NFCTH.NAME]), _tuple(attributes[NFCTH.TUPLE])
        if (name, family, proto) in self.state.builtin_helpers:
            raise Refused(errno.EBUSY)
        helper = UserspaceHelper(
            name=name,
            family=family,
            proto=proto,
            policies=policies,
            queue=0,
            private_data_length=size,
            status=0,
        )
        _set_queue_and_status(helper, attributes)
        self.state.userspace_helpers.append(helper)

    def _delete(self, attributes: Attributes) -> None:
        helpers = self.state.userspace_helpers
        matching = list(self._matching(attributes))
        unused = [helper for helper in matching if helper.key not in self.state.helpers_in_use]
        if helpers and not unused:
            raise Refused(errno.EBUSY if matching else errno.ENOENT)
        for helper in unused:
            helpers.remove(helper)


def _update(helper: UserspaceHelper, attributes: Attributes, release: Release) -> None:
    """Update a helper.

    The kernel refuses to change the number, the order and the names of the policies, and the
    length of the private data.

    :raises Refused: when the request changes one of these.
    """
    size = attributes.get(NFCTH.PRIV_DATA_LEN)
    if size is not None and u32(size) != helper.private_data_length:
        raise Refused(errno.EBUSY)
    if NFCTH.POLICY in attributes:
        sets = parse_nest(
            attributes[NFCTH.POLICY], NFCTH_POLICY_SET.NFCTH_POLICY_SET4, _POLICY_SET_POLICY
        )
        if number(sets.get(NFCTH_POLICY_SET.NUM, b"")) != len(helper.policies):
            raise Refused(errno.EBUSY)
        policies = _parse_policies(attributes[NFCTH.POLICY])
        if [policy.name for policy in policies] != [policy.name for policy in helper.policies]:
            raise Refused(errno.EBUSY)
        if not release.has(releases.HELPER_LIMITS_EACH):
            # The kernel checks each policy, and gives all of them the limits of the first
            # (nfnl_cthelper_update_policy_all).
            first = policies[0]
            policies = tuple(
                ExpectPolicy(
                    name=policy.name,
                    expect_max=first.expect_max,
                    expect_timeout=first.expect_timeout,
                )
                for policy in policies
            )
        helper.policies = policies
    _set_queue_and_status(helper, attributes)


def _set_queue_and_status(helper: UserspaceHelper, attributes: Attributes) -> None:
    if NFCTH.QUEUE_NUM in attributes:
        helper.queue = u32(attributes[NFCTH.QUEUE_NUM])
    if NFCTH.STATUS in attributes and u32(attributes[NFCTH.STATUS]) in (0, 1):
        helper.status = u32(attributes[NFCTH.STATUS])


def _tuple(data: bytes) -> tuple[int, int]:
    nest = parse_nest(data, NFCTH_TUPLE.L4PROTONUM, _TUPLE_POLICY)
    if nest.keys() < _TUPLE_POLICY.keys():
        raise Refused(errno.EINVAL)
    return number(nest[NFCTH_TUPLE.L3PROTONUM][:2]), nest[NFCTH_TUPLE.L4PROTONUM][0]


def _parse_policies(data: bytes) -> tuple[ExpectPolicy, ...]:
    sets = parse_nest(data, NFCTH_POLICY_SET.NFCTH_POLICY_SET4, _POLICY_SET_POLICY)
    count = number(sets.get(NFCTH_POLICY_SET.NUM, b""))
    if not count:
        raise Refused(errno.EINVAL)
    if count > _MAX_POLICIES:
        raise Refused(errno.EOVERFLOW)
    first = int(NFCTH_POLICY_SET.NFCTH_POLICY_SET1)
    return tuple(_parse_policy(sets.get(first + index)) for index in range(count))


def _parse_policy(data: bytes | None) -> ExpectPolicy:
    nest = parse_nest(data or b"", NFCTH_POLICY.EXPECT_TIMEOUT, _EXPECT_POLICY_POLICY)
    if (
        nest.keys() < _EXPECT_POLICY_POLICY.keys()
        or u32(nest[NFCTH_POLICY.EXPECT_MAX]) > _MAX_EXPECTATIONS
    ):
        raise Refused(errno.EINVAL)
    return ExpectPolicy(
        name=text(nest[NFCTH_POLICY.NAME]),
        expect_max=u32(nest[NFCTH_POLICY.EXPECT_MAX]),
        expect_timeout=u32(nest[NFCTH_POLICY.EXPECT_TIMEOUT]),
    )


def _render(helper: UserspaceHelper) -> bytes:
    """Return the attributes of a helper (``nfnl_cthelper_fill_info``)."""
    sets = [
        pack_nest(
            set_number,
            pack_text(NFCTH_POLICY.NAME, policy.name),
            pack_be32(NFCTH_POLICY.EXPECT_MAX, policy.expect_max),
            pack_be32(NFCTH_POLICY.EXPECT_TIMEOUT, policy.expect_timeout),
        )
        for set_number, policy in enumerate(helper.policies, NFCTH_POLICY_SET.NFCTH_POLICY_SET1)
    ]
    return b"".join(
        [
            pack_text(NFCTH.NAME, helper.name),
            pack_be32(NFCTH.QUEUE_NUM, helper.queue or 0),
            pack_nest(
                NFCTH.TUPLE,
                pack(NFCTH_TUPLE.L3PROTONUM, helper.family.to_bytes(2, "big")),
                pack(NFCTH_TUPLE.L4PROTONUM, bytes([helper.proto])),
            ),
            pack_nest(NFCTH.POLICY, pack_be32(NFCTH_POLICY_SET.NUM, len(sets)), *sets),
            pack_be32(NFCTH.PRIV_DATA_LEN, helper.private_data_length or 0),
            pack_be32(NFCTH.STATUS, int(helper.status or 0)),
        ]
    )
