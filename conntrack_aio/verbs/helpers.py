"""User-space helpers: which there are, and what the kernel does for them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Never

from ..codec.messages import decode_helper, helper_of
from ..codec.requests import helpers as requests
from ..dumps import Dump
from ..errors import NotFound
from ..model.enums import HelperStatus
from ..model.helpers import ExpectPolicy, UserspaceHelper
from ..netlink.exchange import Request, Response
from ..session import Session
from .probes import Probes
from .subsystem import Subsystem


class Helpers(Subsystem[UserspaceHelper]):
    """The machine's user-space helpers: ``connection.helpers``.

    One is given to connections by a rule (``iptables -t raw ... -j CT --helper NAME``), and is a
    program that reads an NFQUEUE. The list is one for the whole machine, whatever the network
    namespace of the connection.

    Every verb raises :exc:`PermissionDenied` without CAP_NET_ADMIN in the **initial** user
    namespace, :exc:`NotSupported` on a kernel that was built without CONFIG_NF_CT_NETLINK_HELPER,
    and what the verbs of :class:`Connection` do.

    What names one helper is its name, its family (``AF_INET``, ``AF_INET6``) and its protocol's
    number, all three: :attr:`UserspaceHelper.key`.
    """

    def __init__(self, session: Session, probes: Probes) -> None:
        super().__init__(session, probes, "helpers", requests.dump(), decode_helper)

    def dump(
        self, *, name: str | None = None, family: int | None = None, proto: int | None = None
    ) -> Dump[UserspaceHelper]:
        """The helpers, or those that have all that is named: an async iterator.

        (The kernel filters no dump of them, and of several that match a filtered request answers
        with the first alone; so they are looked at here.)
        """
        return self._dump(_chooser(name, family, proto))

    async def list(
        self, *, name: str | None = None, family: int | None = None, proto: int | None = None
    ) -> list[UserspaceHelper]:
        """The helpers of :meth:`dump`, all of them."""
        return await self._list(_chooser(name, family, proto))

    async def get(self, name: str, family: int, proto: int) -> UserspaceHelper:
        """One helper. Raises :exc:`NotFound` and :exc:`EncodeError`."""
        (read,) = await self._run([requests.get((name, family, proto))])
        return _found(read)

    async def create(self, helper: UserspaceHelper) -> UserspaceHelper:
        """Make a new helper, and return it as the kernel then has it.

        Raises :exc:`AlreadyExists`; :exc:`ResourceBusy` if one inside the kernel has its key;
        :exc:`EncodeError` for what the kernel has no room for: a name of more than 15 bytes, more
        than 4 policies or none, more than 255 expectations, 2,147,483 seconds or 32 bytes of
        private data.
        """
        made, read = await self._run([requests.create(helper), requests.get(helper.key)])
        made.result()
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
        """Change what is named of a helper, and nothing else.

        :param policies: all of them, as many as it has, in their order and with their names. All
            have the same limits: most kernels give every class those of the first
            (``nfnl_cthelper_update_policy_all``, mended in 7.2 and 6.1.192 at the latest), and
            there is no way to ask. Where limits are to differ, delete the helper and make it again.

        Raises :exc:`NotFound`; :exc:`ResourceBusy` for other policies than that;
        :exc:`EncodeError` as :meth:`create`, and for policies whose limits differ.
        """
        key = name, family, proto
        changed = requests.update(key, queue, policies, status)
        await self._do(key, changed)

    async def delete(self, name: str, family: int, proto: int) -> None:
        """Delete one helper: ``await helpers.delete(*helper.key)``.

        Raises :exc:`NotFound`; :exc:`ResourceBusy` if a rule or a connection has it;
        :exc:`EncodeError`.
        """
        key = name, family, proto
        await self._do(key, requests.delete(key))

    async def flush(self, *refused: Never, **also_refused: Never) -> None:
        """Delete the machine's user-space helpers, whosever they are.

        Those that a rule or a connection has stay; :exc:`ResourceBusy` is raised only if all do.

        :raises TypeError: for any argument.
        """
        if refused or also_refused:
            raise TypeError(
                "flush() takes no argument, for it deletes every helper; delete(*helper.key) "
                "deletes one"
            )
        (outcome,) = await self._run([requests.flush()])
        outcome.result()

    async def _do(self, key: requests.Key, request: Request) -> None:
        """Send a request about a helper that must be there.

        Of one that is not, the kernel says EINVAL to an update, and to a delete nothing at all
        while it has no helper whatever; so it is looked up in the same datagram.
        """
        read, done = await self._run([requests.get(key), request], named=1)
        if (read.error is None and not read.replies) or isinstance(read.error, NotFound):
            raise NotFound(errno.ENOENT, str(request), hint=requests.UNKNOWN)
        done.result()


def _found(outcome: Response) -> UserspaceHelper:
    """The helper in the answer to ``get``: no answer is how the kernel says that there is none."""
    replies = outcome.result()
    if not replies:
        raise NotFound(errno.ENOENT, str(outcome.request), hint=requests.UNKNOWN)
    return helper_of(replies[0])


def _chooser(
    name: str | None, family: int | None, proto: int | None
) -> Callable[[UserspaceHelper], bool] | None:
    wanted = (name, family, proto)
    if wanted == (None, None, None):
        return None
    return lambda helper: all(
        value is None or value == own for value, own in zip(wanted, helper.key, strict=True)
    )
