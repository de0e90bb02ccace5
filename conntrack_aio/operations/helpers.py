"""Read and change the user-space helpers of the machine."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Never

from ..codec.policy_messages import decode_helper, helper_of
from ..codec.requests import helpers as requests
from ..errors import NotFound
from ..model.helpers import ExpectPolicy, HelperStatus, UserspaceHelper
from ..netlink.exchange import Request, Response
from ..session import Session
from ..streams.dump import Dump
from .probes import Probes
from .subsystem import Subsystem


class Helpers(Subsystem[UserspaceHelper]):
    """The user-space helpers of the machine: ``conn.helpers``.

    A user-space helper is a program that reads the packets of connections from an NFQUEUE. A rule
    assigns it: ``iptables -t raw ... -j CT --helper NAME``. The machine has one list of helpers,
    which is the same in every network namespace.

    A helper is identified by its name, its family (``AF_INET`` or ``AF_INET6``) and its protocol
    number together: :attr:`UserspaceHelper.key`.

    Besides the errors that it lists, every method raises :exc:`PermissionDenied` without
    CAP_NET_ADMIN in the **initial** user namespace, :exc:`NotSupported` on a kernel that was built
    without CONFIG_NF_CT_NETLINK_HELPER, and what the methods of :class:`Connection` raise.
    """

    def __init__(self, session: Session, probes: Probes) -> None:
        super().__init__(session, probes, "helpers", requests.dump(), decode_helper)

    def dump(
        self, *, name: str | None = None, family: int | None = None, proto: int | None = None
    ) -> Dump[UserspaceHelper]:
        """Dump the helpers: return an async iterator over all, or over those with the given values.

        The library selects them itself: the kernel does not filter their dump, and if several
        helpers match a filtered request it returns only the first.

        :param name: the name to select by.
        :param family: the address family to select by.
        :param proto: the protocol number to select by.
        """
        return self._dump(_selection(name, family, proto))

    async def list(
        self, *, name: str | None = None, family: int | None = None, proto: int | None = None
    ) -> list[UserspaceHelper]:
        """Return the helpers of :meth:`dump` as a list."""
        return await self._list(_selection(name, family, proto))

    async def get(self, name: str, family: int, proto: int) -> UserspaceHelper:
        """Return one helper.

        :raises NotFound: when there is no such helper.
        :raises EncodeError: when no helper can have this name, family or number.
        """
        (read,) = await self._run([requests.get(requests.HelperKey(name, family, proto))])
        return _found(read)

    async def create(self, helper: UserspaceHelper) -> UserspaceHelper:
        """Create a helper, and return it as the kernel then has it.

        :raises AlreadyExists: when there is a helper with this key.
        :raises ResourceBusy: when a helper inside the kernel has this key.
        :raises EncodeError: when a limit of the kernel is exceeded: 15 bytes of name; 1 to 4
            policies; 255 expectations and 2,147,483 seconds in a policy; 32 bytes of private data.
        """
        created, read = await self._run(
            [requests.create(helper), requests.get(requests.HelperKey(*helper.key))]
        )
        created.result()
        return _found(read)

    async def update(
        self,
        name: str,
        family: int,
        proto: int,
        *,
        queue: int | None = None,
        policies: Sequence[ExpectPolicy] | None = None,
        status: HelperStatus | None = None,
    ) -> None:
        """Change the given values of a helper, and no others.

        :param name: the name of the helper.
        :param family: its address family.
        :param proto: its protocol number.
        :param queue: the number of the NFQUEUE that gets its packets.
        :param policies: all of its policies, in their order and with their names, and all with the
            same limits. Most kernels give every class the limits of the first
            (``nfnl_cthelper_update_policy_all``, corrected in 7.2 and by 6.1.192), and the library
            cannot detect which of these the kernel does. For different limits, delete the helper
            and create it again.
        :param status: whether the helper is enabled.

        :raises NotFound: when there is no such helper.
        :raises ResourceBusy: when the policies have other names, or another number or order.
        :raises EncodeError: when :meth:`create` raises it, or the policies have different limits.
        """
        key = requests.HelperKey(name, family, proto)
        changed = requests.update(key, queue, policies, status)
        await self._send_about(key, changed)

    async def delete(self, name: str, family: int, proto: int) -> None:
        """Delete one helper: ``await helpers.delete(*helper.key)``.

        :raises NotFound: when there is no such helper.
        :raises ResourceBusy: when a rule or a connection uses it.
        :raises EncodeError: when no helper can have this name, family or number.
        """
        key = requests.HelperKey(name, family, proto)
        await self._send_about(key, requests.delete(key))

    async def flush(self, *refused: Never, **also_refused: Never) -> None:
        """Delete the user-space helpers of the machine, whichever program created them.

        Helpers that a rule or a connection uses stay.

        :raises ResourceBusy: when all of them are in use.
        :raises TypeError: when an argument is given.
        """
        if refused or also_refused:
            raise TypeError(
                "flush() takes no argument, for it deletes every helper; delete(*helper.key) "
                "deletes one"
            )
        (response,) = await self._run([requests.flush()])
        response.result()

    async def _send_about(self, key: requests.HelperKey, request: Request) -> None:
        """Send a request about a helper that must exist.

        If it does not exist, the kernel answers an update with EINVAL. It acknowledges a delete if
        no user-space helper exists at all. So the same datagram also looks the helper up.
        """
        read, done = await self._run([requests.get(key), request], named=1)
        if (read.error is None and not read.replies) or isinstance(read.error, NotFound):
            raise NotFound(errno.ENOENT, str(request), hint=requests.UNKNOWN)
        done.result()


def _found(response: Response) -> UserspaceHelper:
    """Return the helper in the reply to ``get``.

    :raises NotFound: when the kernel acknowledged the request without a reply.
    """
    replies = response.result()
    if not replies:
        raise NotFound(errno.ENOENT, str(response.request), hint=requests.UNKNOWN)
    return helper_of(replies[0])


def _selection(
    name: str | None, family: int | None, proto: int | None
) -> Callable[[UserspaceHelper], bool] | None:
    """Return the predicate for helpers with these values, or ``None`` for all helpers."""
    wanted = (name, family, proto)
    if wanted == (None, None, None):
        return None
    return lambda helper: all(
        value is None or value == own for value, own in zip(wanted, helper.key, strict=True)
    )
