"""What the bulk verbs do with a window of items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from ..bulk.new_flow import NewFlow, flow_of, masters_first
from ..bulk.outcomes import Outcome, Window
from ..codec.requests import flows as requests
from ..codec.requests.targets import Target
from ..errors import ConntrackError, EncodeError, NotFound
from ..model.flow import Flow
from ..model.nat import NATRange
from ..model.values import describe_error
from ..netlink.exchange import Request, Response
from ..netlink.messages import SUCCESS
from ..netlink.pipeline import ACKNOWLEDGEMENT_COST, ANSWER_COST, Pipeline, RequestWindow
from .naming import Steps, deleting, deleting_again, is_identified, start_of
from .probes import Probes
from .updates import Change, updating

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


class OneRequest(Generic[T]):
    """A request for each item, which is acknowledged, and no more."""

    answer = ACKNOWLEDGEMENT_COST

    def message(self, item: T, seq: int) -> bytes:
        """The request, so numbered. Raises :exc:`EncodeError`."""
        raise NotImplementedError

    def words(self, item: T) -> Request:
        """What it is called in errors."""
        raise NotImplementedError

    async def prepare(self) -> None:
        """Nothing."""

    def start(self, pipeline: Pipeline, items: Sequence[T], until_error: bool) -> Window[T]:
        return self.send(pipeline, items, until_error)

    def send(self, pipeline: Pipeline, items: Sequence[T], until_error: bool) -> Sent[T]:
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

    def start(self, pipeline: Pipeline, items: Sequence[F], until_error: bool) -> Window[F]:
        sent = self.send(pipeline, items, until_error)
        return Again(sent, pipeline, self._again, _by_masters)

    def _again(self, item: F, error: NotFound) -> Steps[None] | None:
        """The master of a flow may stand behind it in the same window."""
        return None if flow_of(item).master is None else self._creating(item)

    def _creating(self, item: F) -> Steps[None]:
        if isinstance(item, NewFlow):
            request = requests.create(item.flow, item.nat_src, item.nat_dst)
        else:
            request = requests.create(item, self._nat_src, self._nat_dst)
        (yield request).result()


def _by_masters(tries: Tries[F]) -> Tries[F]:
    """Those of masters before those of their flows."""
    ordered = masters_first([outcome.item for outcome, _ in tries])
    places = {id(item): place for place, item in enumerate(ordered)}
    return sorted(tries, key=lambda each: places[id(each[0].item)])


class Deletions(OneRequest[D]):
    """Entries to delete."""

    def __init__(self, zone: int | None = None) -> None:
        self._zone = zone

    def message(self, item: D, seq: int) -> bytes:
        return requests.delete_message(item, self._zone, seq)

    def words(self, item: D) -> Request:
        return requests.words("delete", item)

    def start(self, pipeline: Pipeline, items: Sequence[D], until_error: bool) -> Window[D]:
        if any(_has_start(item) for item in items):
            # The kernel compares ids alone, so that each is looked up first.
            return _rounds(
                pipeline,
                items,
                lambda item: deleting(item, self._zone),
                until_error,
                _few(pipeline),
            )
        return Again(self.send(pipeline, items, until_error), pipeline, self._again)

    def _again(self, item: D, error: NotFound) -> Steps[None] | None:
        """Another tuple may find the entry of a flow."""
        if isinstance(item, Flow) and is_identified(item):
            return deleting_again(item, self._zone, error)
        return None


def _has_start(item: object) -> bool:
    try:
        return isinstance(item, Flow) and item.timestamp is not None and start_of(item) is not None
    except Exception:
        return True  # looked up, its outcome says what is wrong with it


def _few(pipeline: Pipeline) -> int:
    """How many answers there is room for where the window is one of acknowledgements."""
    return max(1, pipeline.window_size * ACKNOWLEDGEMENT_COST // ANSWER_COST)


class Sent(Generic[T]):
    """A window of them."""

    def __init__(
        self,
        pipeline: Pipeline,
        items: Sequence[T],
        refused: dict[int, ConntrackError],
        window: RequestWindow,
        words: Callable[[T], Request],
    ) -> None:
        self._pipeline = pipeline
        self._items = items
        self._refused = refused
        self._window = window
        self._words = words

    async def finish(self) -> list[Outcome[T]]:
        await self._pipeline.finish(self._window)
        failures = self._window.failures
        if failures.count(SUCCESS) == len(self._items):
            return [Outcome(item) for item in self._items]
        errors = self._errors()
        return [Outcome(item, next(errors)) for item in self._items]

    def _errors(self) -> Iterator[ConntrackError | None]:
        failures = iter(self._window.failures)
        for index, item in enumerate(self._items):
            if (error := self._refused.get(index)) is not None:
                yield error
            else:
                failure = next(failures)
                if failure is not None and not failure.errno:
                    yield None
                else:
                    why = self._window.unreadable
                    yield Response(self._words(item), [], failure, why).error


Another = Callable[[T, NotFound], "Steps[None] | None"]
"""What else to try for an item that was answered with this; ``None`` for nothing."""


Tries = list[tuple[Outcome[T], "Steps[None]"]]


class Again(Generic[T]):
    """A window of requests, and another try for items that the kernel found nothing for."""

    def __init__(
        self,
        sent: Sent[T],
        pipeline: Pipeline,
        another: Another[T],
        order: Callable[[Tries[T]], Tries[T]] = list,
    ) -> None:
        self._sent = sent
        self._pipeline = pipeline
        self._another = another
        self._order = order
        self._outcomes: list[Outcome[T]] | None = None
        self._rounds: Rounds[T] | None = None

    async def finish(self) -> list[Outcome[T]]:
        if self._outcomes is None:
            self._outcomes = await self._sent.finish()
        if self._rounds is None:
            self._rounds = self._begin(self._outcomes)
        await self._rounds.finish()
        return self._outcomes

    def _begin(self, outcomes: list[Outcome[T]]) -> Rounds[T]:
        rounds: Rounds[T] = Rounds(self._pipeline, _few(self._pipeline))
        again: Tries[T] = []
        for outcome in outcomes:
            if isinstance(outcome.error, NotFound):
                steps = self._another(outcome.item, outcome.error)
                if steps is not None:
                    again.append((outcome, steps))
        for outcome, steps in self._order(again):
            rounds.take(outcome, steps)
        rounds.send()
        return rounds


class Updates(Generic[D]):
    """Updates, each of which may take several requests."""

    answer = ANSWER_COST

    def __init__(self, change: Change, probes: Probes) -> None:
        self.change = change
        self.masks = True
        self._probes = probes
        self._encode = requests.update_of_many(change.values, change.zone)

    async def prepare(self) -> None:
        if self.change.masked:
            self.masks = await self._probes.has("mark_mask")

    def start(self, pipeline: Pipeline, items: Sequence[D], until_error: bool) -> Rounds[D]:
        def steps(item: D) -> Steps[None]:
            return updating(item, self.change, masks=self.masks, encode=self._encode)

        return _rounds(pipeline, items, steps, until_error, pipeline.window_size)


def _rounds(
    pipeline: Pipeline,
    items: Sequence[D],
    steps: Callable[[D], Steps[None]],
    until_error: bool,
    most: int,
) -> Rounds[D]:
    """Begin a window of items: of those before a bad one, if ``until_error``."""
    rounds: Rounds[D] = Rounds(pipeline, most)
    for item in items:
        outcome = Outcome(item)
        rounds.take(outcome, steps(item))
        if until_error and outcome.error is not None:
            break
    rounds.send()
    return rounds


class Rounds(Generic[T]):
    """A window of items: the next request of all that need one more, round by round."""

    def __init__(self, pipeline: Pipeline, most: int) -> None:
        """``most`` requests are under way at a time, so that there is room for the answers."""
        self._pipeline = pipeline
        self._most = most
        self._outcomes: list[Outcome[T]] = []
        self._waiting: deque[tuple[Outcome[T], Steps[None], Request]] = deque()
        self._asking: list[tuple[Outcome[T], Steps[None], Request]] = []
        self._window: RequestWindow | None = None

    def take(self, outcome: Outcome[T], steps: Steps[None]) -> None:
        """Take in one more. What can't be encoded has its error already."""
        self._outcomes.append(outcome)
        outcome.error = None
        self._step(outcome, steps, None)

    def send(self) -> None:
        """Ask what there is to ask."""
        self._window = None
        count = min(len(self._waiting), self._most)
        if count:
            self._asking = [self._waiting.popleft() for _ in range(count)]
            seq = self._pipeline.reserve(count)
            messages = [request.pack(seq + i) for i, (_, _, request) in enumerate(self._asking)]
            self._window = self._pipeline.push(messages, seq)

    async def finish(self) -> list[Outcome[T]]:
        while (window := self._window) is not None:
            await self._pipeline.finish(window)
            asked, self._asking = self._asking, []
            for index, (outcome, steps, request) in enumerate(asked):
                replies = window.replies.get(index, [])
                answer = Response(request, replies, window.failures[index], window.unreadable)
                self._step(outcome, steps, answer)
            self.send()
        return self._outcomes

    def _step(self, outcome: Outcome[T], steps: Steps[None], answer: Response | None) -> None:
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
