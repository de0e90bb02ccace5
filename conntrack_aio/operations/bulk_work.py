"""What each bulk operation does with an item: the requests to create, delete or update it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from ..bulk.new_flow import NewFlow, flow_of, masters_first
from ..bulk.outcomes import ItemWindow, Outcome
from ..codec.requests import flows as requests
from ..codec.requests.targets import Target
from ..errors import ConntrackError, NotFound
from ..model.flow import Flow
from ..model.nat import NATRange
from ..netlink.exchange import Request
from ..netlink.pipeline import Pipeline
from ..netlink.receive_buffer import ACKNOWLEDGEMENT_COST, ANSWER_COST
from .probes import Probes
from .steps import Steps, delete_by_other_keys_steps, delete_steps, is_identified, start_time_of
from .update_steps import CheckedUpdate, update_steps
from .windows import (
    Retries,
    RetryWindow,
    SingleRequestWindow,
    StepsWindow,
    as_encode_error,
    reply_limit,
)

T = TypeVar("T")
F = TypeVar("F", bound=Flow | NewFlow)
D = TypeVar("D", bound=Target)


class SingleRequestWork(Generic[T]):
    """The work of operations that send one request for each item, which the kernel acknowledges."""

    answer_cost = ACKNOWLEDGEMENT_COST

    def message(self, item: T, seq: int) -> bytes:
        """Return the message for an item.

        :raises EncodeError: when the item cannot be encoded.
        """
        raise NotImplementedError

    def request_in_errors(self, item: T) -> Request:
        """Return the request that errors about an item name. It is never sent."""
        raise NotImplementedError

    async def prepare(self) -> None:
        """Do nothing: these requests need no preparation."""

    def start(self, pipeline: Pipeline, items: Sequence[T], until_error: bool) -> ItemWindow[T]:
        return self.send(pipeline, items, until_error)

    def send(
        self, pipeline: Pipeline, items: Sequence[T], until_error: bool
    ) -> SingleRequestWindow[T]:
        """Send a request for each item.

        :param pipeline: sends the requests.
        :param items: the items.
        :param until_error: send nothing after the first item that cannot be encoded.
        """
        encode_errors: dict[int, ConntrackError] = {}
        messages: list[bytes] = []
        first = seq = pipeline.reserve(len(items))
        make = self.message
        for item in items:
            try:
                messages.append(make(item, seq))
            except Exception as error:
                error_index = len(messages) + len(encode_errors)
                encode_errors[error_index] = as_encode_error(error)
                if until_error:
                    items = items[: error_index + 1]
                    break
            else:
                seq += 1
        sent = pipeline.push(messages, first)
        return SingleRequestWindow(pipeline, items, encode_errors, sent, self.request_in_errors)


class CreateWork(SingleRequestWork[F]):
    """Create entries; items that are a :class:`Flow` get the given translation."""

    def __init__(self, nat_src: NATRange | None, nat_dst: NATRange | None) -> None:
        self._nat_src = nat_src
        self._nat_dst = nat_dst

    def message(self, item: F, seq: int) -> bytes:
        if isinstance(item, NewFlow):
            return requests.create_message(item.flow, item.nat_src, item.nat_dst, seq)
        return requests.create_message(item, self._nat_src, self._nat_dst, seq)

    def request_in_errors(self, item: F) -> Request:
        return requests.request_in_errors(
            "create", item.flow if isinstance(item, NewFlow) else item
        )

    def start(self, pipeline: Pipeline, items: Sequence[F], until_error: bool) -> ItemWindow[F]:
        first = self.send(pipeline, items, until_error)
        return RetryWindow(first, pipeline, self._retry_steps, _order_by_masters)

    def _retry_steps(self, item: F, error: NotFound) -> Steps[None] | None:
        """Return the steps that create an item after its master; ``None`` without a master."""
        return None if flow_of(item).master is None else self._create_steps(item)

    def _create_steps(self, item: F) -> Steps[None]:
        if isinstance(item, NewFlow):
            request = requests.create(item.flow, item.nat_src, item.nat_dst)
        else:
            request = requests.create(item, self._nat_src, self._nat_dst)
        (yield request).result()


def _order_by_masters(retries: Retries[F]) -> Retries[F]:
    """Order retries so that masters come before their flows."""
    ordered = masters_first([outcome.item for outcome, _ in retries])
    places = {id(item): place for place, item in enumerate(ordered)}
    return sorted(retries, key=lambda retry: places[id(retry[0].item)])


class DeleteWork(SingleRequestWork[D]):
    """Delete entries."""

    def __init__(self, zone: int | None = None) -> None:
        self._zone = zone

    def message(self, item: D, seq: int) -> bytes:
        return requests.delete_message(item, self._zone, seq)

    def request_in_errors(self, item: D) -> Request:
        return requests.request_in_errors("delete", item)

    def start(self, pipeline: Pipeline, items: Sequence[D], until_error: bool) -> ItemWindow[D]:
        if any(_has_start_time(item) for item in items):
            # The kernel compares only ids, so each flow with a start time is looked up first.
            return _start_steps(
                pipeline,
                items,
                lambda item: delete_steps(item, self._zone),
                until_error,
                reply_limit(pipeline),
            )
        first = self.send(pipeline, items, until_error)
        return RetryWindow(first, pipeline, self._retry_steps)

    def _retry_steps(self, item: D, error: NotFound) -> Steps[None] | None:
        """Return the steps that try the other keys of an item; ``None`` if it has only one key."""
        if isinstance(item, Flow) and is_identified(item):
            return delete_by_other_keys_steps(item, self._zone, error)
        return None


def _has_start_time(item: object) -> bool:
    try:
        if not isinstance(item, Flow) or item.timestamp is None:
            return False
        return start_time_of(item) is not None
    except Exception:
        return True  # the look-up reports what is wrong with the item


class UpdateWork(Generic[D]):
    """Update entries, each of which may take several requests."""

    answer_cost = ANSWER_COST

    def __init__(self, update: CheckedUpdate, probes: Probes) -> None:
        self._update = update
        self._probes = probes
        self._kernel_applies_mark_mask = True
        """Whether this kernel applies ``mark_mask``. It is probed only if the update has one."""
        self._encode = requests.update_of_many(update.values, update.zone)

    async def prepare(self) -> None:
        if self._update.has_mark_mask:
            self._kernel_applies_mark_mask = await self._probes.has("mark_mask")

    def start(self, pipeline: Pipeline, items: Sequence[D], until_error: bool) -> ItemWindow[D]:
        def steps(item: D) -> Steps[None]:
            return update_steps(
                item,
                self._update,
                kernel_applies_mark_mask=self._kernel_applies_mark_mask,
                encode=self._encode,
            )

        return _start_steps(pipeline, items, steps, until_error, pipeline.requests_per_window)


def _start_steps(
    pipeline: Pipeline,
    items: Sequence[D],
    steps_for: Callable[[D], Steps[None]],
    until_error: bool,
    limit: int,
) -> StepsWindow[D]:
    """Send the first request of each item, and return the window.

    :param pipeline: sends the requests.
    :param items: the items.
    :param steps_for: returns the steps of an item.
    :param until_error: stop after the first item that cannot be encoded.
    :param limit: how many requests are sent at a time, so that their replies fit into the buffer.
    """
    window: StepsWindow[D] = StepsWindow(pipeline, limit)
    for item in items:
        outcome = Outcome(item)
        window.add(outcome, steps_for(item))
        if until_error and outcome.error is not None:
            break
    window.send()
    return window
