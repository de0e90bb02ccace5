"""Show the number of entries, and the counters of each processor."""

from __future__ import annotations

from ...connection import Connection
from ..output import write_line, write_lines
from .actions import Action
from .commands import Command
from .messages import FAILED, OK, operation_failed
