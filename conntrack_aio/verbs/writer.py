"""Writing: making, changing and deleting flows."""

from __future__ import annotations

import errno
from typing import Never

from ..codec.requests import flows as requests
from ..codec.requests.targets import Target, as_target
from ..errors import NotFound, ResourceExhausted
from ..model.enums import Status
from ..model.flow import Flow, Helper, SeqAdj, SynProxy
from ..model.labels import Label, LabelNames, is_name
from ..model.nat import NATRange
from ..model.protoinfo import ProtoInfo
from ..model.tuples import IPAddress
from ..model.values import describe_value
from .reader import Reading
from .steps import carry_out, deleting, reading_back
from .update_steps import Change, updating


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
            raise TypeError(f"names of labels are LabelNames(…), not {describe_value(names)}")
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
        translate to is taken; :exc:`EncodeError`, for text that is not an address, too;
        :exc:`TypeError` for what is no :class:`Flow`;
        :exc:`ResourceExhausted` if the table is full; :exc:`NotFound` if its master is missing, or
        if it was gone (its timeout 0) before it could be read back.
        """
        made = requests.create(flow, nat_src, nat_dst)
        created, read = await self._session.run([made, requests.get(flow)])
        created.result()
        try:
            return await carry_out(self._session, reading_back(flow, read))
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

        A flow as the target is the entry with its id and, where it tells that, its start time: it
        is looked up first, by its original tuple and then by its reply tuple. (The kernel does not
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

        Raises :exc:`NotFound`; :exc:`EncodeError` for a value that can't be, or no change at all;
        :exc:`TypeError` for a target that is neither a :class:`Flow` nor a :class:`Tuple`;
        :exc:`ResourceExhausted` for labels on an
        entry without room for them; :exc:`NotSupported` for the same with ``seqadj_orig``,
        ``seqadj_reply`` and ``synproxy``, which the kernel would pass over in silence;
        :exc:`PermissionDenied` for the timeout of one with FIXED_TIMEOUT.
        """
        change = Change.of(
            {
                "mark": mark,
                "mark_mask": mark_mask,
                "timeout": timeout,
                "labels": labels,
                "labels_mask": labels_mask,
                "protoinfo": protoinfo,
                "helper": helper,
                "seqadj_orig": seqadj_orig,
                "seqadj_reply": seqadj_reply,
                "synproxy": synproxy,
            },
            status,
            zone,
        )
        as_target(target)  # what is wrong with it is said before the kernel is asked
        masks = not change.masked or await self._probes.has("mark_mask")
        await carry_out(self._session, updating(target, change, masks=masks))

    async def set_labels(self, target: Target, *labels: Label, zone: int | None = None) -> None:
        """Give a flow these labels, by bit or by name, and no others.

        Names are those of :attr:`label_names`, which are read where a label is given by name. A
        text that is a number, such as ``"5"``, is a bit. Raises :exc:`EncodeError` for a label that
        there is not, and what :meth:`update` raises, above all :exc:`ResourceExhausted` (ENOSPC):
        an entry that was made before a rule of its namespace used labels has no room for any.
        """
        mask = self._mask_of(labels)
        if mask:
            await self.update(target, labels=mask, zone=zone)
        else:
            await self._clear_labels(target, None, zone)

    async def add_labels(self, target: Target, *labels: Label, zone: int | None = None) -> None:
        """Give a flow these labels too. Raises what :meth:`set_labels` does."""
        mask = self._mask_of(labels)
        if mask:
            await self.update(target, labels=mask, labels_mask=mask, zone=zone)
        else:
            await self.get(target, zone=zone)

    async def remove_labels(self, target: Target, *labels: Label, zone: int | None = None) -> None:
        """Take these labels from a flow, if it has them. Raises what :meth:`set_labels` does.

        From an entry without room for labels there is nothing to take: that is no error.
        """
        await self._clear_labels(target, self._mask_of(labels), zone)

    def _mask_of(self, labels: tuple[Label, ...]) -> int:
        """Return the bitmap of labels. Only names need the file that has them."""
        names = self.label_names if any(map(is_name, labels)) else LabelNames()
        return names.mask(*labels)

    async def _clear_labels(self, target: Target, mask: int | None, zone: int | None) -> None:
        try:
            await self.update(target, labels=0, labels_mask=mask, zone=zone)
        except ResourceExhausted as error:
            if error.errno != errno.ENOSPC:
                raise

    async def delete(self, target: Target, *, zone: int | None = None) -> None:
        """Delete one entry.

        A flow as the target stands for the entry with its id; the kernel compares that. But an
        entry that is made again at once, with the same tuple, mostly has the same id. If the flow
        tells its start time (``nf_conntrack_timestamp``), the entry is looked up first and that is
        compared, too; otherwise such a successor is deleted. Where the original tuple finds
        another entry or none, the reply tuple is tried.

        :param target: a flow, or the tuple of either direction.
        :param zone: the zone to look in, instead of the target's own.

        :raises NotFound: if there is no such entry (any more).
        :raises EncodeError: for an incomplete tuple, or a value that can't be.
        :raises TypeError: for a target that is neither a :class:`Flow` nor a :class:`Tuple`.
        """
        await carry_out(self._session, deleting(target, zone))

    async def flush(self, *refused: Never, **also_refused: Never) -> None:
        """Delete every entry of the namespace. To delete some: :meth:`delete_matching`.

        :raises TypeError: for any argument.
        """
        if refused or also_refused:
            raise TypeError(
                "flush() takes no argument, for it deletes every entry; delete_matching(match) "
                "deletes those that match"
            )
        (outcome,) = await self._session.run([requests.flush()], walk=True)
        outcome.result()
