"""Which subsystems the kernel has: a further one is one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ..uapi.nfnetlink import NFNL_SUBSYS
from .conntrack import Conntrack
from .cthelper import UserspaceHelpers
from .protocol import Subsystem
from .state import Lack, State
from .timeouts import Timeouts

SUBSYSTEMS: Final[Mapping[int, tuple[Lack, Callable[[State], Subsystem]]]] = {
    NFNL_SUBSYS.CTNETLINK: ("ctnetlink", Conntrack),
    NFNL_SUBSYS.CTHELPER: ("cthelper", UserspaceHelpers),
    NFNL_SUBSYS.CTNETLINK_TIMEOUT: ("ctnetlink_timeout", Timeouts),
}
"""By number: what a kernel lacks that lacks it, and what makes its handlers.

A subsystem is a :class:`.Subsystem`: a :class:`.Handler` for each message, with the policy that its
attributes are read by. A handler gets a :class:`.Call`, answers by it, and raises
:exc:`.Refused`. It finds flows in :attr:`.State.table`, sends its events by
:meth:`.State.notify`, and hears of flows that go by :attr:`.State.on_destroy`.
"""


def subsystems_of(state: State) -> dict[int, Subsystem]:
    """Those that this kernel has."""
    return {
        number: make(state)
        for number, (lack, make) in SUBSYSTEMS.items()
        if lack not in state.lacks
    }
