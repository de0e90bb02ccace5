"""What the bulk verbs do with a window of items."""

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
from ..netlink import exchange
from ..netlink.exchange import Request
from ..netlink.messages import SUCCESS
from ..netlink.pipeline import ACKNOWLEDGEMENT, ANSWER, Flight, Pipeline
from .probes import Probes
from .steps import Steps, delete_by_other_keys, delete_steps, is_identified, start_of
from .update_steps import CheckedUpdate, update_flow

T = TypeVar("T")
F = TypeVar("F", bound=Flow | NewFlow)
D = TypeVar("D", bound=Target)


def _refused(error: Exception) -> EncodeError:
    """The error in the outcome of an item that no request can be made of, whatever it is.

    Reading an item's fields may run code of the program: what that raises is its cause. The frame
    that caught it is left out of its traceback, because that frame holds all the errors.
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
            f"it can't be written: {type(error).__name__}: {describe_error(error)}"
        )
    refusal.__cause__ = error
    return refusal


class SingleRequests(Generic[T]):
    """A request for each item, which is acknowledged, and no more."""

    answer = ACKNOWLEDGEMENT

    def message(self, item: T, seq: int) -> bytes:
        """The request, so numbered. Raises :exc:`EncodeError`."""
        raise NotImplementedError

    def words(self, item: T) -> Request:
        """What it is called in errors."""
        raise NotImplementedError

    async def prepare(self) -> None:
        """Nothing."""

    def start(self, pipeline: Pipeline, items: Sequence[T], until_error: bool) -> ItemWindow[T]:
        return self.send(pipeline, items, until_error)

    def send(self, pipeline: Pipeline, items: Sequence[T], until_error: bool) -> SentWindow[T]:
        """Send a request for each item: for those before a bad one, if ``until_error``."""
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
        return SentWindow(pipeline, items, refused, pipeline.push(messages, first), self.words)


class CreateWork(SingleRequests[F]):
    """New entries; those without a translation of their own get this one."""

    def __init__(self, nat_src: NATRange | None, nat_dst: NATRange | None) -> None:
        self._nat_src = nat_src
        self._nat_dst = nat_dst

    def message(self, item: F, seq: int) -> bytes:
        if isinstance(item, NewFlow):
            return requests.create_message(item.flow, item.nat_src, item.nat_dst, seq)
        return requests.create_message(item, self._nat_src, self._nat_dst, seq)

    def words(self, item: F) -> Request:
        return requests.words("create", item.flow if isinstance(item, NewFlow) else item)

    def start(self, pipeline: Pipeline, items: Sequence[F], until_error: bool) -> ItemWindow[F]:
        sent = self.send(pipeline, items, until_error)
        return RetriedWindow(sent, pipeline, self._again, _by_masters)

    def _again(self, item: F, error: NotFound) -> Steps[None] | None:
        """The master of a flow may stand behind it in the same window."""
        return None if flow_of(item).master is None else self._creating(item)

    def _creating(self, item: F) -> Steps[None]:
        if isinstance(item, NewFlow):
            request = requests.create(item.flow, item.nat_src, item.nat_dst)
        else:
            request = requests.create(item, self._nat_src, self._nat_dst)
        (yield request).result()


def _by_masters(tries: Retries[F]) -> Retries[F]:
    """Those of masters before those of their flows."""
    ordered = masters_first([outcome.item for outcome, _ in tries])
    places = {id(item): place for place, item in enumerate(ordered)}
    return sorted(tries, key=lambda each: places[id(each[0].item)])


class DeleteWork(SingleRequests[D]):
    """Entries to delete."""

    def __init__(self, zone: int | None = None) -> None:
        self._zone = zone

    def message(self, item: D, seq: int) -> bytes:
        return requests.delete_message(item, self._zone, seq)

    def words(self, item: D) -> Request:
        return requests.words("delete", item)

    def start(self, pipeline: Pipeline, items: Sequence[D], until_error: bool) -> ItemWindow[D]:
        if any(_has_start(item) for item in items):
            # The kernel compares ids alone, so that each is looked up first.
            return _stepped(
                pipeline,
                items,
                lambda item: delete_steps(item, self._zone),
                until_error,
                _replies_that_fit(pipeline),
            )
        return RetriedWindow(self.send(pipeline, items, until_error), pipeline, self._again)

    def _again(self, item: D, error: NotFound) -> Steps[None] | None:
        """Another tuple may find the entry of a flow."""
        if isinstance(item, Flow) and is_identified(item):
            return delete_by_other_keys(item, self._zone, error)
        return None


def _has_start(item: object) -> bool:
    try:
        return isinstance(item, Flow) and item.timestamp is not None and start_of(item) is not None
    except Exception:
        return True  # looked up, its outcome says what is wrong with it


def _replies_that_fit(pipeline: Pipeline) -> int:
    """How many answers there is room for where the window is one of acknowledgements."""
    return max(1, pipeline.window * ACKNOWLEDGEMENT // ANSWER)


class SentWindow(Generic[T]):
    """A window of them."""

    def __init__(
        self,
        pipeline: Pipeline,
        items: Sequence[T],
        refused: dict[int, ConntrackError],
        flight: Flight,
        words: Callable[[T], Request],
    ) -> None:
        self._pipeline = pipeline
        self._items = items
        self._refused = refused
        self._flight = flight
        self._words = words

    async def finish(self) -> list[Outcome[T]]:
        await self._pipeline.finish(self._flight)
        failures = self._flight.failures
        if failures.count(SUCCESS) == len(self._items):
            return [Outcome(item) for item in self._items]
        errors = self._errors()
        return [Outcome(item, next(errors)) for item in self._items]

    def _errors(self) -> Iterator[ConntrackError | None]:
        failures = iter(self._flight.failures)
        for index, item in enumerate(self._items):
            if (error := self._refused.get(index)) is not None:
                yield error
            else:
                failure = next(failures)
                if failure is not None and not failure.errno:
                    yield None
                else:
                    why = self._flight.unreadable
                    yield exchange.Outcome(self._words(item), [], failure, why).error


Retry = Callable[[T, NotFound], "Steps[None] | None"]
"""What else to try for an item that was answered with this; ``None`` for nothing."""


Retries = list[tuple[Outcome[T], "Steps[None]"]]


class RetriedWindow(Generic[T]):
    """A window of requests, and another try for items that the kernel found nothing for."""

    def __init__(
        self,
        sent: SentWindow[T],
        pipeline: Pipeline,
        another: Retry[T],
        order: Callable[[Retries[T]], Retries[T]] = list,
    ) -> None:
        self._sent = sent
        self._pipeline = pipeline
        self._another = another
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
        again: Retries[T] = []
        for outcome in outcomes:
            if isinstance(outcome.error, NotFound):
                steps = self._another(outcome.item, outcome.error)
                if steps is not None:
                    again.append((outcome, steps))
        for outcome, steps in self._order(again):
            rounds.take(outcome, steps)
        rounds.send()
        return rounds


class UpdateWork(Generic[D]):
    """Updates, each of which may take several requests."""

    answer = ANSWER

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

        return _stepped(pipeline, items, steps, until_error, pipeline.window)


def _stepped(
    pipeline: Pipeline,
    items: Sequence[D],
    steps: Callable[[D], Steps[None]],
    until_error: bool,
    most: int,
) -> SteppedWindow[D]:
    """Begin a window of items: of those before a bad one, if ``until_error``."""
    rounds: SteppedWindow[D] = SteppedWindow(pipeline, most)
    for item in items:
        outcome = Outcome(item)
        rounds.take(outcome, steps(item))
        if until_error and outcome.error is not None:
            break
    rounds.send()
    return rounds


class SteppedWindow(Generic[T]):
    """A window of items: the next request of all that need one more, round by round."""

    def __init__(self, pipeline: Pipeline, most: int) -> None:
        """``most`` requests are under way at a time, so that there is room for the answers."""
        self._pipeline = pipeline
        self._most = most
        self._outcomes: list[Outcome[T]] = []
        self._waiting: deque[tuple[Outcome[T], Steps[None], Request]] = deque()
        self._asking: list[tuple[Outcome[T], Steps[None], Request]] = []
        self._flight: Flight | None = None

    def take(self, outcome: Outcome[T], steps: Steps[None]) -> None:
        """Take in one more. What can't be encoded has its error already."""
        self._outcomes.append(outcome)
        outcome.error = None
        self._step(outcome, steps, None)

    def send(self) -> None:
        """Ask what there is to ask."""
        self._flight = None
        count = min(len(self._waiting), self._most)
        if count:
            self._asking = [self._waiting.popleft() for _ in range(count)]
            seq = self._pipeline.reserve(count)
            messages = [request.pack(seq + i) for i, (_, _, request) in enumerate(self._asking)]
            self._flight = self._pipeline.push(messages, seq)

    async def finish(self) -> list[Outcome[T]]:
        while (flight := self._flight) is not None:
            await self._pipeline.finish(flight)
            asked, self._asking = self._asking, []
            for index, (outcome, steps, request) in enumerate(asked):
                replies = flight.replies.get(index, [])
                answer = exchange.Outcome(
                    request, replies, flight.failures[index], flight.unreadable
                )
                self._step(outcome, steps, answer)
            self.send()
        return self._outcomes

    def _step(
        self, outcome: Outcome[T], steps: Steps[None], answer: exchange.Outcome | None
    ) -> None:
        try:
            request = next(steps) if answer is None else steps.send(answer)
        except StopIteration:
            pass
        except ConntrackError as error:
            outcome.error = error
        except Exception as error:
            outcome.error = _refused(error)
        else:
            self._waiting.append((outcome, steps, request))
