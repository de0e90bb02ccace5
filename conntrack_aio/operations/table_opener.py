"""Open live tables."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Final, Literal

from ..filters.match import Match, compiled_of
from ..model.flow import Flow
from ..model.settings import EventMode
from ..model.values import as_seconds, describe_value
from ..plain import as_str
from ..session import Session
from ..streams.options import StreamOptions
from ..table.flow_table import FlowTable
from ..table.kernel_table import KernelTable
from .selector import Selector
from .sysctls import Sysctls

_MAX_INTERVAL: Final = 366 * 86400
"""The largest number of seconds between two reconciliations."""


class TableOpener:
    """Opens live tables: implements :meth:`Connection.table`."""

    def __init__(self, session: Session, selector: Selector, sysctls: Sysctls) -> None:
        self._session = session
        self._selector = selector
        self._sysctls = sysctls

    def table(
        self,
        match: Match | Callable[[Flow], bool] | None,
        *,
        reconcile: float | Literal["auto"] | None,
        enable_events: bool,
        options: StreamOptions,
    ) -> FlowTable:
        if match is not None and not callable(match):  # pyright: ignore[reportUnnecessaryComparison]
            shown = describe_value(match)
            raise TypeError(f"match must be a Match or a function; got {shown}")
        if inspect.iscoroutinefunction(match):
            shown = describe_value(match)
            raise TypeError(f"match must be a plain function, not an async one; got {shown}")
        interval = _interval_of(reconcile)
        self._session.check_open()
        self._session.buffer_sizes_of(options)  # to report an invalid size now
        filter_ = match if isinstance(match, Match) else None
        # It takes long to find out whether a large match is always true, and is not needed here.
        fast = filter_ is not None and not compiled_of(filter_).is_large
        predicate = None if fast and filter_ is not None and filter_.always else match
        selection = None if filter_ is None else self._selector.coarse_event_selection(filter_)

        async def prepare() -> None:
            if filter_ is not None:
                await self._selector.prepare_table(filter_)
            if enable_events:
                await self._enable_events()

        dump = partial(self._selector.dump, filter_, apply_predicate=False)
        return FlowTable(
            KernelTable(self._session, dump, selection, options),
            predicate,
            interval,
            prepare,
            constant_match=match is None or (filter_ is not None and compiled_of(filter_).constant),
        )

    async def _enable_events(self) -> None:
        await self._sysctls.set(events=EventMode.ALWAYS)


def _interval_of(reconcile: float | Literal["auto"] | None) -> float | Literal["auto"] | None:
    """Check an interval between reconciliations.

    :raises TypeError: when it is not a number of seconds, ``"auto"`` or ``None``.
    :raises ValueError: when the number is out of range.
    """
    if reconcile is None:
        return None
    if issubclass(type(reconcile), str) and as_str(reconcile) == "auto":
        return "auto"
    try:
        seconds = as_seconds(reconcile)
    except TypeError:
        shown = describe_value(reconcile)
        raise TypeError(
            f'reconcile must be a number of seconds, "auto" or None; got {shown}'
        ) from None
    if not 0 < seconds <= _MAX_INTERVAL:
        shown = describe_value(seconds)
        raise ValueError(f"reconcile must be above 0 seconds and at most 366 days; got {shown}")
    return float(seconds)
