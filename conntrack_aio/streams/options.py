"""The options of event streams, and which events they hand out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar

import attrs

from ..model.values import describe_value
from ..plain import as_str
from .buffer_sizes import BufferSizes, check_buffer_sizes

if TYPE_CHECKING:
    from ..filters.program import EventFilter

OnLoss = Literal["raise", "item"]
"""What a stream does where events are missing: raise :exc:`EventsLost`, or return it as an item."""

E = TypeVar("E")


def _check_on_loss(on_loss: object) -> OnLoss:
    """Return ``on_loss`` as a plain string.

    :raises ValueError: when it is another value.
    """
    plain = as_str(on_loss) if issubclass(type(on_loss), str) else None
    if plain == "raise":
        return "raise"
    if plain == "item":
        return "item"
    raise ValueError(f'on_loss must be "raise" or "item"; got {describe_value(on_loss)}')


@attrs.frozen(kw_only=True)
class StreamOptions:
    """The options of an event stream: parameters of :meth:`Connection.events`.

    :raises ValueError: when ``on_loss`` is neither ``"raise"`` nor ``"item"``.
    """

    receive_buffer: int | None = None
    """The size of the receive buffer in bytes; ``None`` for the connection's setting."""
    receive_buffer_max: int | None = None
    """The size up to which the buffer grows; ``None`` for the connection's setting."""
    all_netns: bool = False
    """Whether to receive the events of all namespaces that have an id in the connection's own."""
    on_loss: OnLoss = attrs.field(default="raise", converter=_check_on_loss)
    reliable: bool = False
    """Whether the kernel retries DESTROY events that do not fit into the receive buffer."""
    receive_time: bool = False
    """Whether to set the time at which each event was received."""

    def buffer_sizes(self, default: BufferSizes) -> BufferSizes:
        """Return the sizes of the receive buffer.

        :param default: the sizes of the connection. A default maximum may be below a given
            ``receive_buffer``; the buffer then keeps its size.

        :raises TypeError: when a size is not a number of bytes.
        :raises ValueError: when a size is out of range.
        """
        initial = default.initial if self.receive_buffer is None else self.receive_buffer
        sizes = check_buffer_sizes(initial, self.receive_buffer_max)
        if self.receive_buffer_max is None:
            return sizes._replace(maximum=default.maximum)
        return sizes


class EventSelection(NamedTuple, Generic[E]):
    """Which events to hand out."""

    predicate: Callable[[E], bool] | None
    """The predicate to apply. ``None`` if events that the kernel could not filter out are handed
    out, too."""
    filters: Callable[[], Iterable[EventFilter]]
    """Programs that the kernel may filter by; the first one that fits is used."""
