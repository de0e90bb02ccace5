"""The measurements: a function for each figure, which must run in its own network namespace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from ..options import Options
from ..report import Figure
from ..rivals import Rivals
from .create import create
from .dumps import dump, mixed
from .events import events
from .filters import filtered, selected
from .gaps import gaps
from .memory import memory
from .output import output
from .processes import processes
from .pythons import pythons
from .scaling import scaling
from .table import table

MEASURE: Final[Mapping[str, Callable[[Options, Rivals], Figure]]] = MappingProxyType(
    {
        "dump": dump,
        "mixed": mixed,
        "events": events,
        "create": create,
        "selected": selected,
        "filtered": filtered,
        "table": table,
        "scaling": scaling,
        "memory": memory,
        "gaps": gaps,
        "processes": processes,
        "output": output,
        "pythons": pythons,
    }
)
"""The function of each figure, by the names of :data:`~benchmarks.options.FIGURES`."""
