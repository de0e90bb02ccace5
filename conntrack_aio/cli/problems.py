"""Group what many flows have in common: a problem, how many have it, and a few examples."""

from __future__ import annotations

import attrs

from ..errors import KernelError
from ..model.flow import Flow
from .error_texts import text_of

_EXAMPLES = 3
"""How many flows a report about a problem names."""


@attrs.define
class Problem:
    """A problem that flows have in common."""

    what: str
    """What happened to the flows, such as ``not restored``."""
    reason: str
    """Why, without the flow."""
    is_failure: bool
    """Whether the command fails because of it."""
    count: int = 0
    examples: list[str] = attrs.field(factory=list[str])

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.examples) else ""
        return f"{self.count} {self.what}: {self.reason}: {', '.join(self.examples)}{more}"


class Problems:
    """The problems of a command, in the order in which they first occurred."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Problem] = {}

    def add(self, what: str, reason: object, example: str, *, is_failure: bool = True) -> None:
        """Count a flow that has a problem.

        :param what: what happened to it.
        :param reason: the error, or its text.
        :param example: the short text of the flow.
        :param is_failure: whether the command fails because of it.
        """
        text = reason_of(reason)
        problem = self._found.setdefault((what, text), Problem(what, text, is_failure))
        problem.count += 1
        if len(problem.examples) < _EXAMPLES:
            problem.examples.append(example)

    def take(self) -> list[Problem]:
        """Return the problems, and forget them."""
        found, self._found = self.all, {}
        return found

    @property
    def all(self) -> list[Problem]:
        """The problems."""
        return list(self._found.values())

    @property
    def failures(self) -> list[Problem]:
        """The problems because of which the command fails."""
        return [problem for problem in self.all if problem.is_failure]


def reason_of(error: object) -> str:
    """Return why something failed, without the flow that it failed for."""
    text = text_of(error)
    return text.removeprefix(f"{error.request}: ") if isinstance(error, KernelError) else text


def name_of_flow(flow: Flow) -> str:
    """Return the short text of a flow in a list of examples."""
    return f"{flow.orig}" if flow.zone is None else f"{flow.orig} zone={flow.zone}"
