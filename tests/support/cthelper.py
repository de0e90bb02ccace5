"""Subsystem 9 as the kernel has it, for a kernel that was built without it.

What it does, and what it does not check, is that of ``nfnetlink_cthelper.c`` in Linux 6.18: the
list is the machine's, an update of what is not there makes it, a filtered GET that finds nothing
says nothing, a delete says that it succeeded if it deleted anything or if there was nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import attrs

from conntrack_aio.netlink import attributes, nfnetlink
from conntrack_aio.testing import Asked, FakeSocket

from .scripted import ScriptedKernel
from .wire import attr, be8, be16, be32, nest

NEW, GET, DELETE = 0x900, 0x901, 0x902
DUMP, EXCL = 0x300, 0x200

Attributes = dict[int, bytes]


class Refused(Exception):
    """An errno."""

    def __init__(self, code: int) -> None:
        super().__init__(errno.errorcode[code])
        self.code = code


@attrs.define
class Policy:
    name: bytes
    most: int
    timeout: int


@attrs.define
class Helper:
    """``struct nf_conntrack_helper``."""

    name: bytes
    family: int
    protocol: int
    policies: list[Policy]
    private: int
    queue: int = 0
    enabled: bool = False
    users: int = 0
    """Rules and connections that have it."""


class Helpers:
    """The list, and what becomes of requests about it."""

    def __init__(self) -> None:
        self.list: list[Helper] = []
        self.inside = {(b"ftp", 10, 6)}
        """Helpers inside the kernel, which are not in the list."""
        self.privileged = True
        """Whether who asks has CAP_NET_ADMIN in the initial user namespace."""

    def kernel(self) -> ScriptedKernel:
        """One that has them."""
        return ScriptedKernel(self.respond)

    def respond(self, socket: FakeSocket, asked: Asked) -> None:
        """The script of such a kernel."""
        try:
            answers = self._carry_out(asked)
        except Refused as refused:
            socket.ack(asked, refused.code)
            return
        for helper in answers:
            socket.answer(asked, NEW, nfnetlink.pack(0) + render(helper))
        if asked.type == GET and asked.flags & DUMP:
            socket.done(asked)
        else:
            socket.ack(asked)

    def _carry_out(self, asked: Asked) -> list[Helper]:
        given = top_level(asked.payload[nfnetlink.SIZE :])
        if asked.type not in (NEW, GET, DELETE):
            raise Refused(errno.EINVAL)
        if not self.privileged:
            raise Refused(errno.EPERM)
        if asked.type == NEW:
            self._new(given, bool(asked.flags & EXCL))
            return []
        if asked.type == DELETE:
            self._delete(given)
            return []
        if asked.flags & DUMP:
            return self.list  # whatever is asked for
        found = list(self._matching(given))
        if not found and 2 not in given:
            raise Refused(errno.ENOENT)
        return found[:1]

    def _matching(self, given: Attributes) -> Iterator[Helper]:
        name = text(given[1]) if 1 in given else None
        key = tuple_of(given[2]) if 2 in given else None
        for helper in self.list:
            if name is not None and name != helper.name:
                continue
            if key is not None and key != (helper.family, helper.protocol):
                continue
            yield helper

    # -- NEW

    def _new(self, given: Attributes, exclusive: bool) -> None:
        if 1 not in given or 2 not in given:
            raise Refused(errno.EINVAL)
        found = next(self._matching(given), None)
        if found is None:
            self._create(given)
        elif exclusive:
            raise Refused(errno.EEXIST)
        else:
            self._update(found, given)

    def _create(self, given: Attributes) -> None:
        if 4 not in given or 5 not in given:
            raise Refused(errno.EINVAL)
        policies = parse_policies(given[4])
        if number(given[5]) > 32:
            raise Refused(errno.ENOMEM)
        name, key = text(given[1]), tuple_of(given[2])
        if (name, *key) in self.inside:
            raise Refused(errno.EBUSY)
        helper = Helper(name, *key, policies, number(given[5]))
        set_rest(helper, given)
        self.list.append(helper)

    def _update(self, helper: Helper, given: Attributes) -> None:
        if 5 in given and number(given[5]) != helper.private:
            raise Refused(errno.EBUSY)
        if 4 in given:
            if number(parse(given[4]).get(1, b"")) != len(helper.policies):
                raise Refused(errno.EBUSY)
            policies = parse_policies(given[4])
            if [p.name for p in policies] != [p.name for p in helper.policies]:
                raise Refused(errno.EBUSY)
            helper.policies = policies
        set_rest(helper, given)

    # -- DEL

    def _delete(self, given: Attributes) -> None:
        empty = not self.list
        matching = list(self._matching(given))
        unused = [helper for helper in matching if not helper.users]
        self.list = [helper for helper in self.list if helper not in unused]
        if not unused and not empty:
            raise Refused(errno.EBUSY if matching else errno.ENOENT)


def parse(data: bytes) -> Attributes:
    return {
        number: data[first:last] for number, _, first, last in attributes.walk(data, 0, len(data))
    }


def top_level(data: bytes) -> Attributes:
    """``nfnl_cthelper_policy``: a name ends in time, numbers are long enough."""
    given = parse(data)
    if 1 in given and b"\0" not in given[1][:16]:
        raise Refused(errno.EINVAL)
    if any(len(given[n]) < 4 for n in (3, 5, 6) if n in given):
        raise Refused(errno.ERANGE)
    return given


def tuple_of(data: bytes) -> tuple[int, int]:
    given = parse(data)
    if 1 not in given or 2 not in given:
        raise Refused(errno.EINVAL)
    return number(given[1]), number(given[2])


def parse_policies(data: bytes) -> list[Policy]:
    given = parse(data)
    if not (count := number(given.get(1, b""))):
        raise Refused(errno.EINVAL)
    if count > 4:
        raise Refused(errno.EOVERFLOW)
    return [parse_policy(given.get(2 + place)) for place in range(count)]


def parse_policy(data: bytes | None) -> Policy:
    given = parse(data or b"")
    if given.keys() < {1, 2, 3} or number(given[2]) > 255:
        raise Refused(errno.EINVAL)
    return Policy(text(given[1]), number(given[2]), number(given[3]))


def set_rest(helper: Helper, given: Attributes) -> None:
    if 3 in given:
        helper.queue = number(given[3])
    if 6 in given and number(given[6]) in (0, 1):
        helper.enabled = bool(number(given[6]))


def render(helper: Helper) -> bytes:
    """``nfnl_cthelper_fill_info``."""
    policies = [
        nest(place, attr(1, policy.name + b"\0"), be32(2, policy.most), be32(3, policy.timeout))
        for place, policy in enumerate(helper.policies, 2)
    ]
    return b"".join(
        [
            attr(1, helper.name + b"\0"),
            be32(3, helper.queue),
            nest(2, be16(1, helper.family), be8(2, helper.protocol)),
            nest(4, be32(1, len(policies)), *policies),
            be32(5, helper.private),
            be32(6, int(helper.enabled)),
        ]
    )


def number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def text(data: bytes) -> bytes:
    return data.split(b"\0")[0]
