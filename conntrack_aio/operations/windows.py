"""Windows of a bulk operation: the items whose requests are sent together, and their outcomes.

Most items take one request: :class:`SingleRequestWindow`. An item whose first request found nothing
may take others: :class:`RetryWindow`. An update may take several: :class:`StepsWindow`, which sends
the next request of each item together, round after round.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from ..bulk.outcomes import Outcome
from ..errors import ConntrackError, EncodeError, NotFound
from ..model.values import describe_error
from ..netlink.exchange import Request, Response
from ..netlink.messages import SUCCESS
from ..netlink.pipeline import Pipeline, RequestWindow
from ..netlink.receive_buffer import ACKNOWLEDGEMENT_COST, ANSWER_COST
from .steps import Steps

T = TypeVar("T")


def as_encode_error(error: Exception) -> EncodeError:
    """Return the error for the outcome of an item that cannot be encoded.

    Reading the fields of an item may run code of the program. What that code raises is the cause of
    the error. The frame that caught it is left out of its traceback, because it holds all errors of
    the window.

    :param error: what was raised when the item was encoded.
    """
    caught = error.__traceback__
    error.__traceback__ = None if caught is None else caught.tb_next
    del caught
    if isinstance(error, EncodeError):
        return error
    if type(error) is TypeError:
        encode_error = EncodeError(describe_error(error))
    else:
        encode_error = EncodeError(
            f"the item cannot be encoded: {type(error).__name__}: {describe_error(error)}"
        )
    encode_error.__cause__ = error
    return encode_error


class SingleRequestWindow(Generic[T]):
    """Items with one request each, which the kernel acknowledges."""

    def __init__(
        self,
        pipeline: Pipeline,
        items: Sequence[T],
        encode_errors: dict[int, ConntrackError],
        requests: RequestWindow,
        request_in_errors: Callable[[T], Request],
    ) -> None:
        """Initialize a window whose requests were sent.

        :param pipeline: the pipeline that sent the requests.
        :param items: the items.
        :param encode_errors: the errors of the items that cannot be encoded, by index.
        :param requests: the requests for the other items, in the same order.
        :param request_in_errors: returns the request that an error names.
        """
        self._pipeline = pipeline
        self._items = items
        self._encode_errors = encode_errors
        self._requests = requests
        self._request_in_errors = request_in_errors

    async def finish(self) -> list[Outcome[T]]:
        await self._pipeline.finish(self._requests)
        completions = self._requests.completions
        if completions.count(SUCCESS) == len(self._items):
            return [Outcome(item) for item in self._items]
        errors = self._errors()
        return [Outcome(item, next(errors)) for item in self._items]

    def _errors(self) -> Iterator[ConntrackError | None]:
        """Yield the error of each item; ``None`` if its request succeeded."""
        completions = iter(self._requests.completions)
        for index, item in enumerate(self._items):
            if (error := self._encode_errors.get(index)) is not None:
                yield error
            else:
                completion = next(completions)
                if completion is not None and not completion.errno:
                    yield None
                else:
                    unreadable = self._requests.unreadable
                    yield Response(self._request_in_errors(item), [], completion, unreadable).error


def reply_limit(pipeline: Pipeline) -> int:
    """Return how many replies fit into a buffer that was sized for acknowledgements."""
    return max(1, pipeline.requests_per_window * ACKNOWLEDGEMENT_COST // ANSWER_COST)


class StepsWindow(Generic[T]):
    """Items with any number of requests each: see :data:`~conntrack_aio.operations.steps.Steps`."""

    def __init__(self, pipeline: Pipeline, limit: int) -> None:
        """Initialize a window without items.

        :param pipeline: sends the requests.
        :param limit: how many requests are sent at a time, so that their replies fit into the
            buffer.
        """
        self._pipeline = pipeline
        self._limit = limit
        self._outcomes: list[Outcome[T]] = []
        self._unsent: deque[tuple[Outcome[T], Steps[None], Request]] = deque()
        """Items whose next request was not sent yet."""
        self._sent: list[tuple[Outcome[T], Steps[None], Request]] = []
        """Items whose request was sent in this round."""
        self._requests: RequestWindow | None = None
        """The requests of this round; ``None`` if no item takes another."""

    def add(self, outcome: Outcome[T], steps: Steps[None]) -> None:
        """Add an item. If it cannot be encoded, its outcome has the error afterwards."""
        self._outcomes.append(outcome)
        outcome.error = None
        self._advance(outcome, steps, None)

    def send(self) -> None:
        """Send the requests of the next round, if there are any."""
        self._requests = None
        count = min(len(self._unsent), self._limit)
        if count:
            self._sent = [self._unsent.popleft() for _ in range(count)]
            seq = self._pipeline.reserve(count)
            messages = [request.pack(seq + i) for i, (_, _, request) in enumerate(self._sent)]
            self._requests = self._pipeline.push(messages, seq)

    async def finish(self) -> list[Outcome[T]]:
        while (requests := self._requests) is not None:
            await self._pipeline.finish(requests)
            sent, self._sent = self._sent, []
            for index, (outcome, steps, request) in enumerate(sent):
                replies = requests.replies.get(index, [])
                completion = requests.completions[index]
                response = Response(request, replies, completion, requests.unreadable)
                self._advance(outcome, steps, response)
            self.send()
        return self._outcomes

    def _advance(self, outcome: Outcome[T], steps: Steps[None], response: Response | None) -> None:
        """Get the next request of an item, or the outcome if there is none."""
        try:
            request = next(steps) if response is None else steps.send(response)
        except StopIteration:
            pass
        except ConntrackError as error:
            outcome.error = error
        except Exception as error:
            outcome.error = as_encode_error(error)
        else:
            self._unsent.append((outcome, steps, request))


RetrySteps = Callable[[T, NotFound], "Steps[None] | None"]
"""Returns the steps to try for an item that was not found; ``None`` if there are none."""

Retries = list[tuple[Outcome[T], "Steps[None]"]]
"""The outcomes of items that were not found, each with the steps to try."""


class RetryWindow(Generic[T]):
    """Items with one request each, and further steps for the items that were not found."""

    def __init__(
        self,
        first: SingleRequestWindow[T],
        pipeline: Pipeline,
        retry_steps: RetrySteps[T],
        order: Callable[[Retries[T]], Retries[T]] = list,
    ) -> None:
        """Initialize a window whose first requests were sent.

        :param first: the window with the first requests.
        :param pipeline: sends the other requests.
        :param retry_steps: returns the steps for an item that was not found.
        :param order: returns the retries in the order in which to send them.
        """
        self._first = first
        self._pipeline = pipeline
        self._retry_steps = retry_steps
        self._order = order
        self._outcomes: list[Outcome[T]] | None = None
        self._retries: StepsWindow[T] | None = None

    async def finish(self) -> list[Outcome[T]]:
        if self._outcomes is None:
            self._outcomes = await self._first.finish()
        if self._retries is None:
            self._retries = self._start_retries(self._outcomes)
        await self._retries.finish()
        return self._outcomes

    def _start_retries(self, outcomes: list[Outcome[T]]) -> StepsWindow[T]:
        window: StepsWindow[T] = StepsWindow(self._pipeline, reply_limit(self._pipeline))
        retries: Retries[T] = []
        for outcome in outcomes:
            if isinstance(outcome.error, NotFound):
                steps = self._retry_steps(outcome.item, outcome.error)
                if steps is not None:
                    retries.append((outcome, steps))
        for outcome, steps in self._order(retries):
            window.add(outcome, steps)
        window.send()
        return window
