"""Read and change the timeout policies and the default timeouts of a network namespace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ..codec.policy_messages import (
    decode_timeout_policy,
    default_timeouts_of,
    timeout_policy_of,
)
from ..codec.requests import timeouts as requests
from ..errors import NoReply, NotFound, ResourceBusy
from ..model.timeouts import ProtocolTimeouts, TimeoutPolicy
from ..netlink.exchange import Request
from ..session import Session
from ..streams.dump import Dump
from .probes import Probes
from .replies import object_in
from .subsystem import Subsystem

K = TypeVar("K", bound=ProtocolTimeouts)


class Timeouts(Subsystem[TimeoutPolicy]):
    """The timeout policies of a network namespace, and its default timeouts: ``conn.timeouts``.

    A rule of iptables assigns a policy to flows: ``-t raw -j CT --timeout NAME``. The ``ct
    timeout`` objects of nftables are different ones and have no name here.

    Besides the errors that it lists, every method raises :exc:`NotSupported` on a kernel that was
    built without CONFIG_NF_CT_NETLINK_TIMEOUT, and what the methods of :class:`Connection` raise.
    """

    def __init__(self, session: Session, probes: Probes) -> None:
        super().__init__(session, probes, "timeouts", requests.dump(), decode_timeout_policy)

    def dump(self) -> Dump[TimeoutPolicy]:
        """Dump the policies: return an async iterator."""
        return self._dump()

    async def list(self) -> list[TimeoutPolicy]:
        """Return the policies as a list."""
        return await self._list()

    async def get(self, name: str) -> TimeoutPolicy:
        """Return the policy of this name.

        :raises NotFound: when there is none.
        :raises EncodeError: when no policy can have this name.
        :raises TypeError: when the name is not text.
        """
        return await self._policy_after([requests.get(name)])

    async def create(self, policy: TimeoutPolicy) -> TimeoutPolicy:
        """Create a policy, and return it as the kernel then has it.

        Timeouts that the policy leaves at ``None`` get the namespace's current defaults.

        :raises AlreadyExists: when there is a policy of this name.
        :raises NotSupported: when this kernel has no timeouts for the protocol.
        :raises EncodeError: when a field holds no valid value, or a timeout is above 2,147,483
            seconds, which does not fit where the kernel ticks 1000 times a second.
        """
        return await self._policy_after([requests.create(policy), requests.get(policy.name)])

    async def replace(self, policy: TimeoutPolicy) -> TimeoutPolicy:
        """Create or replace the policy of this name; return it as the kernel then has it.

        Timeouts that the policy leaves at ``None`` **get the namespace's defaults**, whatever they
        were before; :meth:`update` keeps them. Flows that have the policy follow it from their next
        packet on.

        :raises InvalidRequest: when the existing policy is for another family or protocol, which
            cannot be changed.
        :raises NotSupported: when :meth:`create` raises it.
        :raises EncodeError: when :meth:`create` raises it.
        """
        return await self._policy_after([requests.replace(policy), requests.get(policy.name)])

    async def update(self, name: str, timeouts: ProtocolTimeouts) -> TimeoutPolicy:
        """Change some timeouts of a policy, and return it as the kernel then has it.

        The kernel can only replace all timeouts, so the policy is read first. A change that another
        program makes between the two requests is lost.

        :param name: the name of the policy.
        :param timeouts: the timeouts to change; those that are ``None`` stay as they are.

        :raises NotFound: when there is no such policy.
        :raises EncodeError: when the timeouts are of another protocol, when the update changes
            nothing, and when :meth:`create` raises it.
        """
        timeouts = requests.plain_timeouts(timeouts)
        policy = await self.get(name)
        return await self._policy_after([requests.update(policy, timeouts), requests.get(name)])

    async def delete(self, name: str) -> None:
        """Delete a policy. Its flows follow the defaults from their next packet on.

        :raises NotFound: when there is no such policy.
        :raises ResourceBusy: when a rule uses it. Since Linux 7.1 and 6.1.192 the kernel deletes it
            all the same.
        :raises EncodeError: when no policy can have this name.
        """
        (response,) = await self._run([requests.delete(name)])
        response.result()

    async def delete_unused(self) -> int:
        """Delete the policies that no rule uses, and return how many there were.

        The library lists them and deletes each by name. The kernel's own request for it, a delete
        without a name, deletes all policies on kernels that delete policies in use (Linux 7.1,
        6.1.192).
        """
        unused = [policy for policy in await self._list() if not policy.in_use]
        deleted = 0
        for response in await self._run(list(map(requests.delete_listed, unused))):
            # A policy that is gone, or that a rule uses by now, is no longer an unused one.
            if not isinstance(response.error, NotFound | ResourceBusy):
                response.result()
                deleted += 1
        return deleted

    async def get_defaults(self, kind: type[K], *, proto: int | None = None) -> K:
        """Return the default timeouts of a protocol: ``get_defaults(TCPTimeouts)``.

        They apply to the flows of this namespace that have no policy. Most of them are also in
        ``net.netfilter.nf_conntrack_*_timeout*``.

        :param kind: the class of the timeouts.
        :param proto: the protocol number, if ``kind`` is for two protocols: 136 for UDP-Lite.

        :raises NotSupported: when this kernel has no timeouts for the protocol.
        :raises EncodeError: when the protocol does not belong to ``kind``.
        :raises TypeError: when ``kind`` is not a class of timeouts.
        """
        request = requests.get_defaults(kind, proto)
        (response,) = await self._run([request])
        replies = response.result()
        timeouts = default_timeouts_of(replies[0]) if replies else None
        if not isinstance(timeouts, kind):
            raise NoReply(f"{request}: the kernel's reply has no timeouts")
        return timeouts

    async def set_defaults(self, timeouts: ProtocolTimeouts, *, proto: int | None = None) -> None:
        """Change some default timeouts of a protocol. The sysctls show them, too.

        The new values apply to flows without a policy from their next packet. Policies keep their
        timeouts.

        :param timeouts: the timeouts to change; those that are ``None`` stay as they are.
        :param proto: the protocol number, if the class of ``timeouts`` is for two protocols: 136
            for UDP-Lite.

        :raises NotSupported: when this kernel has no timeouts for the protocol.
        :raises EncodeError: when :meth:`create` raises it.
        """
        (response,) = await self._run([requests.set_defaults(timeouts, proto)])
        response.result()

    async def _policy_after(self, sent: Sequence[Request]) -> TimeoutPolicy:
        """Send requests, and return the policy that the last one reads."""
        *done, read = await self._run(sent)
        for response in done:
            response.result()
        return object_in(read, "policy", timeout_policy_of)
