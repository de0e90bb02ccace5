"""List the nfnetlink subsystems of the fake kernel; a new subsystem is one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ..uapi.nfnetlink import NFNL_SUBSYS
from .conntrack import Conntrack
from .cthelper import UserspaceHelpers
from .protocol import Subsystem
from .state import State, Unavailable
from .timeouts import Timeouts

SUBSYSTEMS: Final[Mapping[int, tuple[Unavailable, Callable[[State], Subsystem]]]] = {
    NFNL_SUBSYS.CTNETLINK: ("ctnetlink", Conntrack),
    NFNL_SUBSYS.CTHELPER: ("cthelper", UserspaceHelpers),
    NFNL_SUBSYS.CTNETLINK_TIMEOUT: ("ctnetlink_timeout", Timeouts),
}
"""The subsystems by number: the :data:`.Unavailable` name that removes it, and its class.

- A :class:`.Subsystem` has a :class:`.Handler` for each message, with the policy of the message's
  attributes.
- A handler gets a :class:`.Call`, sends replies by its methods, and raises :exc:`.Refused`.
- It finds entries in :attr:`.State.table`, and sends events by :meth:`.State.broadcast`.
- It registers a callback in :attr:`.State.on_destroy` to delete its objects with their entries.
"""


def subsystems_of(state: State) -> dict[int, Subsystem]:
    """Create the subsystems that this kernel has, by number."""
    return {
        number: create(state)
        for number, (name, create) in SUBSYSTEMS.items()
        if name not in state.unavailable
    }
