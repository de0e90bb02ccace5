"""Read, create, change and delete single flows, set their labels, and flush the table."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..codec.requests import flows as requests
from ..codec.requests.targets import Target, as_target
from ..errors import NotFound, ResourceExhausted
from ..model.flow import Flow
from ..model.tuples import IPAddress
from ..model.values import describe_value
from ..session import Session
from .steps import delete_steps, look_up_steps, read_back_steps, run_steps

if TYPE_CHECKING:
    from ..model.labels import Label, LabelNames
    from ..model.nat import NATRange
    from ..model.update import FlowUpdate
    from .probes import Probes


class SingleFlows:
    """Reads, creates, changes and deletes single flows, sets their labels, and flushes the table.

    Each method implements the method of :class:`Connection` with the same name, which documents it.
    """

    def __init__(self, session: Session, probes: Callable[[], Probes]) -> None:
        """Use a session.

        :param session: the session.
        :param probes: returns the probes of the kernel's features, whose modules take long to
            import.
        """
        self._session = session
        self._probes = probes
        self._label_names: LabelNames | None = None

    @property
    def label_names(self) -> LabelNames:
        if self._label_names is None:
            from ..model.labels import LabelNames

            self._label_names = LabelNames.read()
        return self._label_names

    @label_names.setter
    def label_names(self, names: LabelNames) -> None:
        from ..model.labels import LabelNames

        if not isinstance(names, LabelNames):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"label_names must be LabelNames(…); got {describe_value(names)}")
        self._label_names = names

    async def get(self, target: Target, zone: int | None) -> Flow:
        _, flow = await run_steps(self._session, look_up_steps(target, zone))
        return flow

    async def create(
        self,
        flow: Flow,
        *,
        nat_src: NATRange | IPAddress | str | None,
        nat_dst: NATRange | IPAddress | str | None,
    ) -> Flow:
        request = requests.create(flow, nat_src, nat_dst)
        created, read = await self._session.run([request, requests.get(flow)])
        created.result()
        try:
            return await run_steps(self._session, read_back_steps(flow, read))
        except NotFound as error:
            hint = "The entry was created, and was gone before it could be read back"
            raise NotFound(errno.ENOENT, str(request), hint=hint) from error

    async def update(self, target: Target, update: FlowUpdate, *, zone: int | None) -> None:
        from .update_steps import CheckedUpdate, update_steps

        checked = CheckedUpdate.of(update, zone)
        as_target(target)  # a wrong target is refused before anything is sent
        applies_mask = not checked.has_mark_mask or await self._probes().has("mark_mask")
        steps = update_steps(target, checked, kernel_applies_mark_mask=applies_mask)
        await run_steps(self._session, steps)

    async def set_labels(self, target: Target, labels: tuple[Label, ...], zone: int | None) -> None:
        mask = self._mask_of(labels)
        if mask:
            await self.update(target, {"labels": mask}, zone=zone)
        else:
            await self._clear_labels(target, None, zone)

    async def add_labels(self, target: Target, labels: tuple[Label, ...], zone: int | None) -> None:
        mask = self._mask_of(labels)
        if mask:
            await self.update(target, {"labels": mask, "labels_mask": mask}, zone=zone)
        else:
            await self.get(target, zone)

    async def remove_labels(
        self, target: Target, labels: tuple[Label, ...], zone: int | None
    ) -> None:
        await self._clear_labels(target, self._mask_of(labels), zone)

    def _mask_of(self, labels: tuple[Label, ...]) -> int:
        """Return the bitmap of labels, reading the file of names only if a label is a name."""
        from ..model.labels import LabelNames, is_name

        names = self.label_names if any(map(is_name, labels)) else LabelNames()
        return names.mask(*labels)

    async def _clear_labels(self, target: Target, mask: int | None, zone: int | None) -> None:
        try:
            await self.update(target, {"labels": 0, "labels_mask": mask}, zone=zone)
        except ResourceExhausted as error:
            # The entry has no room for labels, and so none to clear.
            if error.errno != errno.ENOSPC:
                raise

    async def delete(self, target: Target, *, zone: int | None) -> None:
        await run_steps(self._session, delete_steps(target, zone))

    async def flush(self) -> None:
        (response,) = await self._session.run([requests.flush()], walks_table=True)
        response.result()
