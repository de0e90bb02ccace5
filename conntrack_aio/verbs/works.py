"""What the bulk verbs do with a window of items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from ..bulk.new_flow import NewFlow
from ..bulk.outcomes import Outcome
from ..codec.requests import flows as requests
from ..codec.requests.flows import Target
from ..errors import ConntrackError, EncodeError
from ..model.flow import Flow
from ..model.nat import NATRange
from ..netlink import exchange
from ..netlink.exchange import Request
from ..netlink.messages import SUCCESS
from ..netlink.pipeline import ACKNOWLEDGEMENT, ANSWER, Flight, Pipeline
from .probes import Probes
from .updates import Change, Steps, updating

T = TypeVar("T")
F = TypeVar("F", bound=Flow | NewFlow)
D = TypeVar("D", bound=Target)


_BAD_INPUT = (EncodeError, AttributeError, TypeError, ValueError)
"""What an item is refused with, one that is not at all what its type says among them."""


def _refused(error: Exception) -> EncodeError:
    if isinstance(error, EncodeError):
        return error
    refusal = EncodeError(f"it can't be written: {type(error).__name__}: {error}")
    refusal.__cause__ = error
    return refusal


class OneRequest(Generic[T]):
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

    def start(self, pipeline: Pipeline, items: Sequence[T], until_error: bool) -> Sent[T]:
        refused: dict[int, ConntrackError] = {}
        messages: list[bytes] = []
        first = seq = pipeline.reserve(len(items))
        make = self.message
        for item in items:
            try:
                messages.append(make(item, seq))
            except _BAD_INPUT as error:
                index = len(messages) + len(refused)
                refused[index] = _refused(error)
                if until_error:
                    items = items[: index + 1]
                    break
            else:
                seq += 1
        return Sent(pipeline, items, refused, pipeline.push(messages, first), self.words)


class Creations(OneRequest[F]):
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


class Deletions(OneRequest[D]):
    """Entries to delete."""

    def __init__(self, zone: int | None = None) -> None:
        self._zone = zone

    def message(self, item: D, seq: int) -> bytes:
        return requests.delete_message(item, self._zone, seq)

    def words(self, item: D) -> Request:
        return requests.words("delete", item)


class Sent(Generic[T]):
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


class Updates(Generic[D]):
    """Updates, each of which may take several requests."""

    answer = ANSWER

    def __init__(self, change: Change, probes: Probes) -> None:
        self.change = change
        self.masks = True
        self._probes = probes
        self._encode = requests.update_of_many(change.values, change.zone)

    async def prepare(self) -> None:
        if self.change.masked:
            self.masks = await self._probes.has("mark_mask")

    def start(self, pipeline: Pipeline, items: Sequence[D], until_error: bool) -> Rounds[D]:
        rounds: Rounds[D] = Rounds(pipeline)
        for item in items:
            steps = updating(item, self.change, masks=self.masks, encode=self._encode)
            outcome = rounds.begin(item, steps)
            if until_error and outcome.error is not None:
                break
        rounds.send()
        return rounds


class Rounds(Generic[D]):
    """A window of updates: the next request of all that need one more, round by round."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._outcomes: list[Outcome[D]] = []
        self._asking: list[tuple[Outcome[D], Steps, Request]] = []
        self._flight: Flight | None = None

    def begin(self, item: D, steps: Steps) -> Outcome[D]:
        """Take in one more. What can't be encoded has its error already."""
        outcome: Outcome[D] = Outcome(item)
        self._outcomes.append(outcome)
        self._step(outcome, steps, None)
        return outcome

    def send(self) -> None:
        """Ask what there is to ask."""
        self._flight = None
        if self._asking:
            seq = self._pipeline.reserve(len(self._asking))
            messages = [request.pack(seq + i) for i, (_, _, request) in enumerate(self._asking)]
            self._flight = self._pipeline.push(messages, seq)

    async def finish(self) -> list[Outcome[D]]:
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

    def _step(self, outcome: Outcome[D], steps: Steps, answer: exchange.Outcome | None) -> None:
        try:
            request = next(steps) if answer is None else steps.send(answer)
        except StopIteration:
            pass
        except ConntrackError as error:
            outcome.error = error
        except _BAD_INPUT as error:
            outcome.error = _refused(error)
        else:
            self._asking.append((outcome, steps, request))
