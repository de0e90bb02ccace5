"""Carry out a window of items of a bulk operation: the requests for each item, and its outcome.

Most items take one request. An item whose first request found nothing may take others, and so does
an update. The requests of all items of a window go out together, round after round.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from ..bulk.new_flow import NewFlow, flow_of, masters_first
from ..bulk.outcomes import ItemWindow, Outcome
from ..codec.requests import flows as requests
from ..codec.requests.targets import Target
from ..errors import ConntrackError, EncodeError, NotFound
from ..model.flow import Flow
from ..model.nat import NATRange
from ..model.values import describe_error
from ..netlink.exchange import Request, Response
from ..netlink.messages import SUCCESS
from ..netlink.pipeline import ACKNOWLEDGEMENT_COST, ANSWER_COST, Pipeline, RequestWindow
from .probes import Probes
from .steps import Steps, delete_by_other_keys, delete_steps, is_identified, start_of
from .update_steps import CheckedUpdate, update_flow

T = TypeVar("T")
F = TypeVar("F", bound=Flow | NewFlow)
D = TypeVar("D", bound=Target)


def _refused(error: Exception) -> EncodeError:
    """Return the error in the outcome of an item for which no request can be made.

    Reading the fields of an item may run code of the program. What that code raises is the cause of
    the error. The frame that caught it is left out of its traceback, because it holds all errors of
    the window.
    """
    caught = error.__traceback__
    error.__traceback__ = None if caught is None else caught.tb_next
    del caught
    if isinstance(error, EncodeError):
        return error
    if type(error) is TypeError:
        refusal = EncodeError(describe_error(error))
    else:
        refusal = EncodeError(
            f"it cannot be encoded: {type(error).__name__}: {describe_error(error)}"
        )
    refusal.__cause__ = error
    return refusal


class SingleRequests(Generic[T]):
    """The work of operations that send one request for each item, which the kernel acknowledges."""

    reply_size = ACKNOWLEDGEMENT_COST

    def message(self, item: T, seq: int) -> bytes:
        """Return the message for an item.

        :raises EncodeError: for an item that cannot be encoded.
        """
        raise NotImplementedError

    def request_in_errors(self, item: T) -> Request:
        """Return a request for an item that is named in errors but never sent."""
        raise NotImplementedError

    async def prepare(self) -> None:
        """Do nothing: these requests need no preparation."""

    def start(self, pipeline: Pipeline, items: Sequence[T], until_error: bool) -> ItemWindow[T]:
        return self.send(pipeline, items, until_error)

    def send(self, pipeline: Pipeline, items: Sequence[T], until_error: bool) -> SentWindow[T]:
        """Send a request for each item.

        :param until_error: send nothing after the first item that cannot be encoded.
        """
        refused: dict[int, ConntrackError] = {}
        messages: list[bytes] = []
        first = seq = pipeline.reserve(len(items))
        make = self.message
        for item in items:
            try:
                messages.append(make(item, seq))
            except Exception as error:
                index = len(messages) + len(refused)
                refused[index] = _refused(error)
                if until_error:
                    items = items[: index + 1]
                    break
            else:
                seq += 1
        return SentWindow(
            pipeline, items, refused, pipeline.push(messages, first), self.request_in_errors
        )


class CreateWork(SingleRequests[F]):
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
        sent = self.send(pipeline, items, until_error)
        return RetriedWindow(sent, pipeline, self._retry, _by_masters)

    def _retry(self, item: F, error: NotFound) -> Steps[None] | None:
        """Return the steps that try an item again: its master may come after it in the window."""
        return None if flow_of(item).master is None else self._create_steps(item)

    def _create_steps(self, item: F) -> Steps[None]:
        if isinstance(item, NewFlow):
            request = requests.create(item.flow, item.nat_src, item.nat_dst)
        else:
            request = requests.create(item, self._nat_src, self._nat_dst)
        (yield request).result()


def _by_masters(retries: Retries[F]) -> Retries[F]:
    """Order retries so that masters come before their flows."""
    ordered = masters_first([outcome.item for outcome, _ in retries])
    places = {id(item): place for place, item in enumerate(ordered)}
    return sorted(retries, key=lambda retry: places[id(retry[0].item)])


class DeleteWork(SingleRequests[D]):
    """Delete entries."""

    def __init__(self, zone: int | None = None) -> None:
        self._zone = zone

    def message(self, item: D, seq: int) -> bytes:
        return requests.delete_message(item, self._zone, seq)

    def request_in_errors(self, item: D) -> Request:
        return requests.request_in_errors("delete", item)

    def start(self, pipeline: Pipeline, items: Sequence[D], until_error: bool) -> ItemWindow[D]:
        if any(_has_start(item) for item in items):
            # The kernel compares only ids, so each flow with a start time is looked up first.
            return _stepped(
                pipeline,
                items,
                lambda item: delete_steps(item, self._zone),
                until_error,
                _replies_that_fit(pipeline),
            )
        return RetriedWindow(self.send(pipeline, items, until_error), pipeline, self._retry)

    def _retry(self, item: D, error: NotFound) -> Steps[None] | None:
        """Return the steps that try a flow again: another tuple may find its entry."""
        if isinstance(item, Flow) and is_identified(item):
            return delete_by_other_keys(item, self._zone, error)
        return None


def _has_start(item: object) -> bool:
    try:
        return isinstance(item, Flow) and item.timestamp is not None and start_of(item) is not None
    except Exception:
        return True  # the look-up reports what is wrong with the item


def _replies_that_fit(pipeline: Pipeline) -> int:
    """Return how many replies fit into a buffer that was sized for acknowledgements."""
    return max(1, pipeline.window_size * ACKNOWLEDGEMENT_COST // ANSWER_COST)


class SentWindow(Generic[T]):
    """A window of single requests that were sent."""

    def __init__(
        self,
        pipeline: Pipeline,
        items: Sequence[T],
        refused: dict[int, ConntrackError],
        flight: RequestWindow,
        request_in_errors: Callable[[T], Request],
    ) -> None:
        self._pipeline = pipeline
        self._items = items
        self._refused = refused
        self._flight = flight
        self._request_in_errors = request_in_errors

    async def finish(self) -> list[Outcome[T]]:
        await self._pipeline.finish(self._flight)
        completions = self._flight.completions
        if completions.count(SUCCESS) == len(self._items):
            return [Outcome(item) for item in self._items]
        errors = self._errors()
        return [Outcome(item, next(errors)) for item in self._items]

    def _errors(self) -> Iterator[ConntrackError | None]:
        completions = iter(self._flight.completions)
        for index, item in enumerate(self._items):
            if (error := self._refused.get(index)) is not None:
                yield error
            else:
                completion = next(completions)
                if completion is not None and not completion.errno:
                    yield None
                else:
                    unreadable = self._flight.unreadable
                    yield Response(self._request_in_errors(item), [], completion, unreadable).error


Retry = Callable[[T, NotFound], "Steps[None] | None"]
"""Returns the steps to try for an item that was not found; ``None`` if there are none."""


Retries = list[tuple[Outcome[T], "Steps[None]"]]


class RetriedWindow(Generic[T]):
    """A window of single requests, with further requests for items that were not found."""

    def __init__(
        self,
        sent: SentWindow[T],
        pipeline: Pipeline,
        retry: Retry[T],
        order: Callable[[Retries[T]], Retries[T]] = list,
    ) -> None:
        self._sent = sent
        self._pipeline = pipeline
        self._retry = retry
        self._order = order
        self._outcomes: list[Outcome[T]] | None = None
        self._stepped: SteppedWindow[T] | None = None

    async def finish(self) -> list[Outcome[T]]:
        if self._outcomes is None:
            self._outcomes = await self._sent.finish()
        if self._stepped is None:
            self._stepped = self._begin(self._outcomes)
        await self._stepped.finish()
        return self._outcomes

    def _begin(self, outcomes: list[Outcome[T]]) -> SteppedWindow[T]:
        rounds: SteppedWindow[T] = SteppedWindow(self._pipeline, _replies_that_fit(self._pipeline))
        retries: Retries[T] = []
        for outcome in outcomes:
            if isinstance(outcome.error, NotFound):
                steps = self._retry(outcome.item, outcome.error)
                if steps is not None:
                    retries.append((outcome, steps))
        for outcome, steps in self._order(retries):
            rounds.add(outcome, steps)
        rounds.send()
        return rounds


class UpdateWork(Generic[D]):
    """Update entries, each of which may take several requests."""

    reply_size = ANSWER_COST

    def __init__(self, update: CheckedUpdate, probes: Probes) -> None:
        self.update = update
        self.masks = True
        self._probes = probes
        self._encode = requests.update_of_many(update.values, update.zone)

    async def prepare(self) -> None:
        if self.update.has_mark_mask:
            self.masks = await self._probes.has("mark_mask")

    def start(self, pipeline: Pipeline, items: Sequence[D], until_error: bool) -> SteppedWindow[D]:
        def steps(item: D) -> Steps[None]:
            return update_flow(item, self.update, masks=self.masks, encode=self._encode)

        return _stepped(pipeline, items, steps, until_error, pipeline.window_size)


def _stepped(
    pipeline: Pipeline,
    items: Sequence[D],
    steps: Callable[[D], Steps[None]],
    until_error: bool,
    limit: int,
) -> SteppedWindow[D]:
    """Start a window of items that take several requests each.

    :param until_error: stop behind the first item that cannot be encoded.
    :param limit: how many requests are sent at a time, so that their replies fit into the buffer.
    """
    rounds: SteppedWindow[D] = SteppedWindow(pipeline, limit)
    for item in items:
        outcome = Outcome(item)
        rounds.add(outcome, steps(item))
        if until_error and outcome.error is not None:
            break
    rounds.send()
    return rounds


class SteppedWindow(Generic[T]):
    """A window of items whose next requests are sent together, round after round."""

    def __init__(self, pipeline: Pipeline, limit: int) -> None:
        """Initialize a window without items.

        :param limit: how many requests are sent at a time, so that their replies fit into the
            buffer.
        """
        self._pipeline = pipeline
        self._limit = limit
        self._outcomes: list[Outcome[T]] = []
        self._waiting: deque[tuple[Outcome[T], Steps[None], Request]] = deque()
        self._sent: list[tuple[Outcome[T], Steps[None], Request]] = []
        self._flight: RequestWindow | None = None

    def add(self, outcome: Outcome[T], steps: Steps[None]) -> None:
        """Add an item. If it cannot be encoded, its outcome has the error afterwards."""
        self._outcomes.append(outcome)
        outcome.error = None
        self._step(outcome, steps, None)

    def send(self) -> None:
        """Send the next requests, if there are any."""
        self._flight = None
        count = min(len(self._waiting), self._limit)
        if count:
            self._sent = [self._waiting.popleft() for _ in range(count)]
            seq = self._pipeline.reserve(count)
            messages = [request.pack(seq + i) for i, (_, _, request) in enumerate(self._sent)]
            self._flight = self._pipeline.push(messages, seq)

    async def finish(self) -> list[Outcome[T]]:
        while (flight := self._flight) is not None:
            await self._pipeline.finish(flight)
            sent, self._sent = self._sent, []
            for index, (outcome, steps, request) in enumerate(sent):
                replies = flight.replies.get(index, [])
                response = Response(request, replies, flight.completions[index], flight.unreadable)
                self._step(outcome, steps, response)
            self.send()
        return self._outcomes

    def _step(self, outcome: Outcome[T], steps: Steps[None], response: Response | None) -> None:
        try:
            request = next(steps) if response is None else steps.send(response)
        except StopIteration:
            pass
        except ConntrackError as error:
            outcome.error = error
        except Exception as error:
            outcome.error = _refused(error)
        else:
            self._waiting.append((outcome, steps, request))
