"""What happens before and while a block runs: the entries and the traffic that its page supposes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

import anyio
import anyio.to_thread
import attrs
from support import expectations as some
from support import flows
from support.lab import Lab

import conntrack_aio
from conntrack_aio import Connection, Flow, NATRange
from conntrack_aio.sandbox import traffic

Action = Callable[[Lab, Connection], Awaitable[object]]


async def nothing(lab: Lab, conn: Connection) -> None:
    """For a block that needs none."""


@attrs.frozen(kw_only=True)
class Scene:
    """What a block supposes."""

    before: Action = nothing
    """Done before it runs."""
    meanwhile: Action = nothing
    """Done while it runs, once it waits."""
    endless: bool = False
    """Whether it runs until it is stopped; it is stopped once it has printed what is shown."""
    listens: bool = True
    """Whether an endless program subscribes to events, and is waited for until it has."""
    prelude: str = ""
    """Commands that a shell runs before the program."""
    arguments: str = ""
    """The arguments of the program."""
    names: Mapping[str, object] = MappingProxyType({})
    """Names that a fragment uses and does not define."""


def endless(meanwhile: Action, before: Action = nothing, **more: object) -> Scene:
    """A scene that goes on until its block has printed what is shown."""
    return Scene(before=before, meanwhile=meanwhile, endless=True, **more)  # type: ignore[arg-type]


SCENES: Final[dict[str, Scene]] = {}
EXCERPTS: Final[dict[str, str]] = {}
EXCEPTIONS: Final[dict[tuple[str, str], str]] = {}
