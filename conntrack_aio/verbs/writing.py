"""Writing: making, changing and deleting flows."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from ..codec.requests import flows as requests
from ..codec.requests.flows import Target
from ..errors import (
    EncodeError,
    NotFound,
    NotSupported,
    ResourceBusy,
    ResourceExhausted,
    UnsafeRequest,
)
from ..filters.match import Match
from ..model.flow import Flow, Helper, SeqAdj, Status, SynProxy
from ..model.labels import Label, LabelNames
from ..model.nat import NATRange
from ..model.protoinfo import ProtoInfo
from ..model.tuples import IPAddress
from ..netlink.exchange import Outcome
from .answers import the_flow
from .reading import Reading, check_match

_EXTENSIONS = ("seqadj_orig", "seqadj_reply", "synproxy")
"""What the kernel passes over in silence where an entry has no room for it."""

_ATTEMPTS = 5
"""At an update of the status, which packets may change between our look and our request."""


class Writing(Reading):
    """The verbs of a connection that write flows."""

    _label_names: LabelNames | None = None

    @property
    def label_names(self) -> LabelNames:
        """The names of labels: those of this machine's ``connlabel.conf``, or what it is set to.

        The file is read at first use. Raises what :meth:`LabelNames.read` does.
        """
        if self._label_names is None:
            self._label_names = LabelNames.read()
        return self._label_names

    @label_names.setter
    def label_names(self, names: LabelNames) -> None:
        if not isinstance(names, LabelNames):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"names of labels are LabelNames(…), not {names!r}")
        self._label_names = names

    async def create(
        self,
        flow: Flow,
        *,
        nat_src: NATRange | IPAddress | str | None = None,
        nat_dst: NATRange | IPAddress | str | None = None,
    ) -> Flow:
        """Make a new entry, and return it as the kernel then has it, id included.

        A TCP flow without a state gets ESTABLISHED, and both sides BE_LIBERAL: without window
        data its packets would be invalid otherwise. Of the status only what
        :data:`~conntrack_aio.codec.requests.flows.SETTABLE` has is taken; the kernel sets the rest.

        :param nat_src: translate the source to this address, or to one of this range. Give the
            flow with its untranslated inverse as the reply.
        :param nat_dst: translate the destination.

        The kernel cuts a timeout to 2^31 of its ticks (8,589,934 seconds at 250 a second), and
        leaves out labels where no rule of the namespace uses any.

        Raises :exc:`AlreadyExists` if an entry has one of its tuples, or all of a range to
        translate to is taken; :exc:`EncodeError`;
        :exc:`ResourceExhausted` if the table is full; :exc:`NotFound` if its master is missing, or
        if it was gone (its timeout 0) before it could be read back.
        """
        made = requests.create(flow, nat_src, nat_dst)
        created, read = await self._session.run([made, requests.get(flow)])
        created.result()
        try:
            return the_flow(read)
        except NotFound as error:
            hint = "It was made, and was gone before it could be read back"
            raise NotFound(errno.ENOENT, str(made), hint=hint) from error

    async def update(
        self,
        target: Target,
        *,
        mark: int | None = None,
        mark_mask: int | None = None,
        timeout: int | None = None,  # noqa: ASYNC109 - the entry's, not ours
        status: Status | None = None,
        labels: int | None = None,
        labels_mask: int | None = None,
        protoinfo: ProtoInfo | None = None,
        helper: Helper | str | None = None,
        seqadj_orig: SeqAdj | None = None,
        seqadj_reply: SeqAdj | None = None,
        synproxy: SynProxy | None = None,
        zone: int | None = None,
    ) -> None:
        """Change what is named, and nothing else. ``None`` leaves a thing as it is; 0 is zero.

        A flow as the target is the one with its id: it is looked up first. (The kernel does not
        compare ids in updates; should the entry be replaced just in between, its successor is
        changed.) The kernel applies the parts one after the other, and what came before a part
        that it refuses stays.

        :param target: a flow, or the tuple of either direction.
        :param mark_mask: only these bits of the mark change. On a kernel before 5.8 the mark is
            read first: a change that another program makes just then to the rest is undone.
        :param timeout: seconds from now.
        :param status: bits to set, of SEEN_REPLY, ASSURED, FIXED_TIMEOUT and HELPER. No bit can
            be cleared; those that are set already may be named.
        :param labels: 128 bits; with ``labels_mask`` only those in it change.
        :param helper: the name that the entry has already, to pass on ``info``; an empty name
            detaches it.
        :param seqadj_orig: all three of its numbers, for an entry that has room for them: one
            made by a program, or with a helper or SYNPROXY in it.
        :param synproxy: the same, for an entry made by a program or behind SYNPROXY.
        :param zone: the zone to look in, instead of the target's own.

        Raises :exc:`NotFound`; :exc:`EncodeError`; :exc:`ResourceExhausted` for labels on an
        entry without room for them; :exc:`NotSupported` for the same with ``seqadj_orig``,
        ``seqadj_reply`` and ``synproxy``, which the kernel would pass over in silence;
        :exc:`PermissionDenied` for the timeout of one with FIXED_TIMEOUT.
        """
        values: dict[str, object] = {
            "mark": mark,
            "mark_mask": mark_mask,
            "timeout": timeout,
            "labels": labels,
            "labels_mask": labels_mask,
            "protoinfo": protoinfo,
            "helper": Helper(name=helper) if isinstance(helper, str) else helper,
            "seqadj_orig": seqadj_orig,
            "seqadj_reply": seqadj_reply,
            "synproxy": synproxy,
        }
        if status is None and all(value is None for value in values.values()):
            raise EncodeError("an update that changes nothing")
        if status is not None:
            if not isinstance(status, int):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise EncodeError(f"{status!r} is no Status", ("status",))
            await self._update_with_status(target, values, status, zone)
            return
        if isinstance(target, Flow) and target.id is not None:
            await self.get(target, zone=zone)
        outcome = await self._send_update(target, values, zone)
        outcome.result()

    async def _update_with_status(
        self, target: Target, values: dict[str, object], wanted: Status, zone: int | None
    ) -> None:
        """The kernel wants the bits repeated that may not change; packets may change them."""
        for attempt in range(_ATTEMPTS):
            current = (await self.get(target, zone=zone)).status or Status(0)
            status = requests.updated_status(current, wanted)
            outcome = await self._send_update(target, {**values, "status": status}, zone)
            if not isinstance(outcome.error, ResourceBusy) or attempt == _ATTEMPTS - 1:
                outcome.result()
                return

    async def _send_update(
        self, target: Target, values: dict[str, object], zone: int | None
    ) -> Outcome:
        request = requests.update(target, values, zone)
        if values.get("mark_mask") is not None and not await self._probes.has("mark_mask"):
            # Kernels before 5.3 ignore the mask, and would replace the whole mark.
            current = (await self.get(target, zone=zone)).mark or 0
            whole = requests.merged_mark(current, values)
            request = requests.update(target, values | whole, zone)
        written = [name for name in _EXTENSIONS if values.get(name) is not None]
        if not written:
            return await self._session.ask(request)
        updated, read = await self._session.run([request, requests.get(target, zone)])
        if updated.error is None:
            flow = the_flow(read)
            for name in written:
                if getattr(flow, name) is None:
                    hint = f"The entry has no room for {name}: packets made it. The rest was done"
                    raise NotSupported(errno.EOPNOTSUPP, str(request), hint=hint)
        return updated

    async def set_labels(self, target: Target, *labels: Label, zone: int | None = None) -> None:
        """Give a flow these labels, by bit or by name, and no others.

        Names are those of :attr:`label_names`. Raises :exc:`EncodeError` for a label that there
        is not, and what :meth:`update` raises, above all :exc:`ResourceExhausted` (ENOSPC): an
        entry that was made before a rule of its namespace used labels has no room for any.
        """
        mask = self.label_names.mask(*labels)
        if mask:
            await self.update(target, labels=mask, zone=zone)
        else:
            await self._clear_labels(target, None, zone)

    async def add_labels(self, target: Target, *labels: Label, zone: int | None = None) -> None:
        """Give a flow these labels too. Raises what :meth:`set_labels` does."""
        mask = self.label_names.mask(*labels)
        if mask:
            await self.update(target, labels=mask, labels_mask=mask, zone=zone)
        else:
            await self.get(target, zone=zone)

    async def remove_labels(self, target: Target, *labels: Label, zone: int | None = None) -> None:
        """Take these labels from a flow, if it has them. Raises what :meth:`set_labels` does.

        From an entry without room for labels there is nothing to take: that is no error.
        """
        await self._clear_labels(target, self.label_names.mask(*labels), zone)

    async def _clear_labels(self, target: Target, mask: int | None, zone: int | None) -> None:
        try:
            await self.update(target, labels=0, labels_mask=mask, zone=zone)
        except ResourceExhausted as error:
            if error.errno != errno.ENOSPC:
                raise

    async def delete(self, target: Target, *, zone: int | None = None) -> None:
        """Delete one entry. A flow as the target is deleted only if its id is still the same.

        :param target: a flow, or the tuple of either direction.
        :param zone: the zone to look in, instead of the target's own.

        Raises :exc:`NotFound`; :exc:`EncodeError` for an incomplete tuple.
        """
        outcome = await self._session.ask(requests.delete(target, zone))
        outcome.result()

    async def flush(self) -> None:
        """Delete every entry of the namespace. To delete some: :meth:`delete_matching`."""
        (outcome,) = await self._session.run([requests.flush()], walk=True)
        outcome.result()

    async def delete_matching(self, match: Match) -> int:
        """Delete the flows that match, and return how many they were.

        The table is dumped, each flow checked here, and deleted by tuple, zone and id: what does
        not match is never touched.

        Raises :exc:`UnsafeRequest` for a match that is always true: that is :meth:`flush`.
        """
        check_match(match)
        if match.always:
            raise UnsafeRequest(
                "delete_matching with a match that is always true; flush() deletes everything"
            )
        deleted = 0
        async with self.dump(match) as dump:
            async for batch in dump.batches():
                deleted += await self._delete_all(batch)
        return deleted

    async def _delete_all(self, flows: Sequence[Flow]) -> int:
        outcomes = await self._session.run([requests.delete(flow) for flow in flows])
        deleted = 0
        for outcome in outcomes:
            # One that ended meanwhile is not there any more, which is what was wanted.
            if not isinstance(outcome.error, NotFound):
                outcome.result()
                deleted += 1
        return deleted
