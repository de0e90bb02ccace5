"""Subsystem 9, user-space helpers (``nfnetlink_cthelper.c``).

An update of what is not there makes it; a GET by the key that finds nothing answers with nothing; a
delete succeeds if it deleted anything, or if there was nothing at all; a dump filters nothing.
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
from . import ages
from .ages import Release
from .attributes import NEST, U8, U16, U32, Policy, Refused, Rule, number, parse_nest, text, u32
from .protocol import Call, Handler, ListDump, Subsystem
from .state import State

_MSG: Final = NFNL_MSG_CTHELPER
_DUMP: Final = int(NLM_F.DUMP)
_EXCL: Final = int(NLM_F.EXCL)
_MOST_POLICIES: Final = 4
_MOST_EXPECTATIONS: Final = 255
_MOST_DATA: Final = 32

_NAME: Final = Rule(text=True, most=15)
_POLICY: Final[Policy] = {
    NFCTH.NAME: _NAME,
    NFCTH.TUPLE: NEST,
    NFCTH.QUEUE_NUM: U32,
    NFCTH.POLICY: NEST,
    NFCTH.PRIV_DATA_LEN: U32,
    NFCTH.STATUS: U32,
}
_TUPLE_POLICY: Final[Policy] = {NFCTH_TUPLE.L3PROTONUM: U16, NFCTH_TUPLE.L4PROTONUM: U8}
_SET_POLICY: Final[Policy] = {NFCTH_POLICY_SET.NUM: U32}
_ONE_POLICY: Final[Policy] = {
    NFCTH_POLICY.NAME: _NAME,
    NFCTH_POLICY.EXPECT_MAX: U32,
    NFCTH_POLICY.EXPECT_TIMEOUT: U32,
}

Attributes = Mapping[int, bytes]


class UserspaceHelpers(Subsystem):
    """The machine's list of helpers that are programs."""

    classes = (UserspaceHelper,)

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.handlers: Mapping[int, Handler] = {
            message: Handler(self._carry_out, NFCTH.STATUS, _POLICY) for message in _MSG
        }

    def verb(self, message: int, flags: int, payload: bytes) -> str:
        if message == _MSG.NEW:
            return "create helper" if flags & _EXCL else "update helper"
        if message == _MSG.GET:
            return "dump helpers" if flags & _DUMP else "get helper"
        return "delete helpers"

    def _carry_out(self, call: Call) -> None:
        """All of it takes CAP_NET_ADMIN in the initial user namespace."""
        if "initial CAP_NET_ADMIN" in self.state.lacks:
            raise Refused(errno.EPERM)
        if call.asked.message == _MSG.NEW:
            self._new(call)
        elif call.asked.message == _MSG.DEL:
            self._delete(call.attributes)
        else:
            self._get(call)

    def _matching(self, given: Attributes) -> Iterator[UserspaceHelper]:
        """Those of a name, of a tuple, or of both."""
        name = text(given[NFCTH.NAME]) if NFCTH.NAME in given else None
        key = _tuple(given[NFCTH.TUPLE]) if NFCTH.TUPLE in given else None
        for helper in self.state.userspace_helpers:
            if name in (None, helper.name) and key in (None, (helper.family, helper.proto)):
                yield helper

    # -- reading ----------------------------------------------------------------------------

    def _get(self, call: Call) -> None:
        if call.asked.is_dump:
            kind = nfnetlink.message_type(NFNL_SUBSYS.CTHELPER, _MSG.NEW)
            payloads = [nfnetlink.pack(0) + _render(each) for each in self.state.userspace_helpers]
            call.dump(lambda: ListDump(call, kind, payloads))
        found = next(self._matching(call.attributes), None)
        if found is not None:
            call.answer(_MSG.NEW, 0, _render(found))
        elif NFCTH.TUPLE not in call.attributes:
            raise Refused(errno.ENOENT)

    # -- writing ----------------------------------------------------------------------------

    def _new(self, call: Call) -> None:
        given = call.attributes
        if NFCTH.NAME not in given or NFCTH.TUPLE not in given:
            raise Refused(errno.EINVAL)
        found = next(self._matching(given), None)
        if found is None:
            self._create(given)
        elif call.asked.flags & _EXCL:
            raise Refused(errno.EEXIST)
        else:
            _update(found, given, self.state.release)

    def _create(self, given: Attributes) -> None:
        if NFCTH.POLICY not in given or NFCTH.PRIV_DATA_LEN not in given:
            raise Refused(errno.EINVAL)
        policies = _parse_policies(given[NFCTH.POLICY])
        size = u32(given[NFCTH.PRIV_DATA_LEN])
        if size > _MOST_DATA:
            raise Refused(errno.ENOMEM)
        name, (family, proto) = text(given[NFCTH.NAME]), _tuple(given[NFCTH.TUPLE])
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
        _set_rest(helper, given)
        self.state.userspace_helpers.append(helper)

    def _delete(self, given: Attributes) -> None:
        everything = self.state.userspace_helpers
        matching = list(self._matching(given))
        unused = [each for each in matching if each.key not in self.state.helpers_in_use]
        if everything and not unused:
            raise Refused(errno.EBUSY if matching else errno.ENOENT)
        for helper in unused:
            everything.remove(helper)


def _update(helper: UserspaceHelper, given: Attributes, release: Release) -> None:
    """The number, the order and the names of its policies stay, and so does its data's size."""
    size = given.get(NFCTH.PRIV_DATA_LEN)
    if size is not None and u32(size) != helper.private_data_length:
        raise Refused(errno.EBUSY)
    if NFCTH.POLICY in given:
        sets = parse_nest(given[NFCTH.POLICY], NFCTH_POLICY_SET.NFCTH_POLICY_SET4, _SET_POLICY)
        if number(sets.get(NFCTH_POLICY_SET.NUM, b"")) != len(helper.policies):
            raise Refused(errno.EBUSY)
        policies = _parse_policies(given[NFCTH.POLICY])
        if [each.name for each in policies] != [each.name for each in helper.policies]:
            raise Refused(errno.EBUSY)
        if not release.has(ages.HELPER_LIMITS_EACH):
            # It checks each, and gives them the limits of the first
            # (nfnl_cthelper_update_policy_all).
            most, seconds = policies[0].expect_max, policies[0].expect_timeout
            policies = tuple(
                ExpectPolicy(name=each.name, expect_max=most, expect_timeout=seconds)
                for each in policies
            )
        helper.policies = policies
    _set_rest(helper, given)


def _set_rest(helper: UserspaceHelper, given: Attributes) -> None:
    if NFCTH.QUEUE_NUM in given:
        helper.queue = u32(given[NFCTH.QUEUE_NUM])
    if NFCTH.STATUS in given and u32(given[NFCTH.STATUS]) in (0, 1):
        helper.status = u32(given[NFCTH.STATUS])


def _tuple(data: bytes) -> tuple[int, int]:
    nest = parse_nest(data, NFCTH_TUPLE.L4PROTONUM, _TUPLE_POLICY)
    if nest.keys() < _TUPLE_POLICY.keys():
        raise Refused(errno.EINVAL)
    return number(nest[NFCTH_TUPLE.L3PROTONUM][:2]), nest[NFCTH_TUPLE.L4PROTONUM][0]


def _parse_policies(data: bytes) -> tuple[ExpectPolicy, ...]:
    sets = parse_nest(data, NFCTH_POLICY_SET.NFCTH_POLICY_SET4, _SET_POLICY)
    count = number(sets.get(NFCTH_POLICY_SET.NUM, b""))
    if not count:
        raise Refused(errno.EINVAL)
    if count > _MOST_POLICIES:
        raise Refused(errno.EOVERFLOW)
    first = int(NFCTH_POLICY_SET.NFCTH_POLICY_SET1)
    return tuple(_parse_policy(sets.get(first + place)) for place in range(count))


def _parse_policy(data: bytes | None) -> ExpectPolicy:
    nest = parse_nest(data or b"", NFCTH_POLICY.EXPECT_TIMEOUT, _ONE_POLICY)
    if nest.keys() < _ONE_POLICY.keys() or u32(nest[NFCTH_POLICY.EXPECT_MAX]) > _MOST_EXPECTATIONS:
        raise Refused(errno.EINVAL)
    return ExpectPolicy(
        name=text(nest[NFCTH_POLICY.NAME]),
        expect_max=u32(nest[NFCTH_POLICY.EXPECT_MAX]),
        expect_timeout=u32(nest[NFCTH_POLICY.EXPECT_TIMEOUT]),
    )


def _render(helper: UserspaceHelper) -> bytes:
    """``nfnl_cthelper_fill_info``."""
    sets = [
        pack_nest(
            place,
            pack_text(NFCTH_POLICY.NAME, policy.name),
            pack_be32(NFCTH_POLICY.EXPECT_MAX, policy.expect_max),
            pack_be32(NFCTH_POLICY.EXPECT_TIMEOUT, policy.expect_timeout),
        )
        for place, policy in enumerate(helper.policies, NFCTH_POLICY_SET.NFCTH_POLICY_SET1)
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
