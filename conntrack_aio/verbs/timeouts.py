"""Timeout policies: which there are, and the defaults where a flow has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ..codec.messages import decode_timeout_policy, default_timeouts_of
from ..codec.requests import timeouts as requests
from ..errors import NoReply, NotFound, ResourceBusy
from ..model.timeouts import ProtocolTimeouts, TimeoutPolicy
from ..netlink.exchange import Request
from ..session import Session
from ..streams.dump import Dump
from .answers import the_policy
from .probes import Probes
from .subsystem import Subsystem

K = TypeVar("K", bound=ProtocolTimeouts)


class Timeouts(Subsystem[TimeoutPolicy]):
    """The timeout policies of a network namespace: ``connection.timeouts``.

    A policy is given to flows by a rule of iptables: ``-t raw -j CT --timeout NAME``. (The ``ct
    timeout`` objects of nftables are others, with no name here.)

    Every verb raises :exc:`NotSupported` on a kernel that was built without
    CONFIG_NF_CT_NETLINK_TIMEOUT, and what the verbs of :class:`Connection` do.
    """

    def __init__(self, session: Session, probes: Probes) -> None:
        super().__init__(session, probes, "timeouts", requests.dump(), decode_timeout_policy)

    def dump(self) -> Dump[TimeoutPolicy]:
        """The policies: an async iterator."""
        return self._dump()

    async def list(self) -> list[TimeoutPolicy]:
        """The policies, all of them."""
        return await self._list()

    async def get(self, name: str) -> TimeoutPolicy:
        """Return one policy, by its name.

        :raises NotFound: if there is none of that name.
        :raises EncodeError: for a name that can't be.
        :raises TypeError: for what is no text.
        """
        return await self._answered([requests.get(name)])

    async def create(self, policy: TimeoutPolicy) -> TimeoutPolicy:
        """Make a new policy, and return it as the kernel then has it.

        Of its timeouts, those that are not told get the namespace's defaults of now.

        Raises :exc:`AlreadyExists`; :exc:`NotSupported` for a protocol that this kernel has no
        timeouts of; :exc:`EncodeError`, also for a timeout beyond 2,147,483 seconds: what is more
        does not fit where the kernel ticks 1000 times a second.
        """
        return await self._answered([requests.create(policy), requests.get(policy.name)])

    async def replace(self, policy: TimeoutPolicy) -> TimeoutPolicy:
        """Give the policy of that name these timeouts, or make it; return it as it is then.

        Of its timeouts, those that are **not told get the namespace's defaults**, whatever they
        were; :meth:`update` leaves them as they are. Flows that have the policy follow it from
        their next packet on.

        Raises :exc:`InvalidRequest` if it is for another family or protocol, which it keeps;
        :exc:`NotSupported` and :exc:`EncodeError` as :meth:`create`.
        """
        return await self._answered([requests.replace(policy), requests.get(policy.name)])

    async def update(self, name: str, timeouts: ProtocolTimeouts) -> TimeoutPolicy:
        """Change those timeouts of a policy that are told; return it as it is then.

        The kernel can only replace the whole, so the policy is read first. What another program
        changes just in between is undone.

        Raises :exc:`NotFound`; :exc:`EncodeError` for timeouts of another protocol, for none that
        is told, and as :meth:`create`.
        """
        timeouts = requests.plain_timeouts(timeouts)
        policy = await self.get(name)
        return await self._answered([requests.update(policy, timeouts), requests.get(name)])

    async def delete(self, name: str) -> None:
        """Delete a policy. Flows that had it go by the defaults.

        Raises :exc:`NotFound`; :exc:`ResourceBusy` if a rule has it (since Linux 7.1, and
        6.1.192, the kernel deletes it all the same); :exc:`EncodeError`.
        """
        (outcome,) = await self._run([requests.delete(name)])
        outcome.result()

    async def delete_unused(self) -> int:
        """Delete the policies that no rule has, and return how many they were.

        They are listed, and deleted by name: the kernel's own way, a delete without a name, is one
        of all policies since it deletes what rules have (Linux 7.1, 6.1.192).
        """
        unused = [policy for policy in await self._list() if not policy.in_use]
        deleted = 0
        for outcome in await self._run(list(map(requests.delete_listed, unused))):
            # One that is gone or was taken meanwhile is not unused any more.
            if not isinstance(outcome.error, NotFound | ResourceBusy):
                outcome.result()
                deleted += 1
        return deleted

    async def get_defaults(self, kind: type[K], *, proto: int | None = None) -> K:
        """What the flows without a policy go by, in this namespace: ``get_defaults(TCPTimeouts)``.

        Most of it is in ``net.netfilter.nf_conntrack_*_timeout*`` as well.

        :param proto: the number, where ``kind`` has two: 136 for UDP-Lite.

        Raises :exc:`NotSupported` for a protocol that this kernel has no timeouts of, and
        :exc:`EncodeError` for one that does not go with ``kind``.
        """
        request = requests.get_defaults(kind, proto)
        (outcome,) = await self._run([request])
        replies = outcome.result()
        timeouts = default_timeouts_of(replies[0]) if replies else None
        if not isinstance(timeouts, kind):
            raise NoReply(f"{request}: the kernel's answer has none")
        return timeouts

    async def set_defaults(self, timeouts: ProtocolTimeouts, *, proto: int | None = None) -> None:
        """Change those of a protocol's defaults that are told; the sysctls show them too.

        Flows without a policy follow from their next packet on; policies keep what they have.

        :param proto: the number, where the class of ``timeouts`` has two: 136 for UDP-Lite.

        Raises :exc:`NotSupported` for a protocol that this kernel has no timeouts of, and
        :exc:`EncodeError` as :meth:`create`.
        """
        (outcome,) = await self._run([requests.set_defaults(timeouts, proto)])
        outcome.result()

    async def _answered(self, asked: Sequence[Request]) -> TimeoutPolicy:
        """The policy that the last request reads, once those before have done their work."""
        *done, read = await self._run(asked)
        for outcome in done:
            outcome.result()
        return the_policy(read)
