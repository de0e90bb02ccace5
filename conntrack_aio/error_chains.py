"""Find the causes of an error, copy errors, and free what their tracebacks refer to.

A traceback refers to stack frames, and these to the flows and other objects that were in use.
"""

from __future__ import annotations

import copy
from typing import TypeVar

E = TypeVar("E", bound=BaseException)


def chain_of(error: BaseException) -> list[BaseException]:
    """Return an error and all others that it refers to, each once.

    An error refers to its cause, and to the error that was being handled when it was raised, even
    if a traceback does not show that one. The chain may have a cycle: ``raise error from error``
    makes an error its own cause.
    """
    chain: dict[int, BaseException] = {}  # by identity: errors may compare equal
    waiting: list[BaseException | None] = [error]
    while waiting:
        part = waiting.pop()
        if part is not None and id(part) not in chain:
            chain[id(part)] = part
            waiting += [part.__context__, part.__cause__]
    return list(chain.values())


def clear_frames(error: BaseException) -> None:
    """Clear the frames in the tracebacks of an error and of its causes.

    The tracebacks still show where the errors were raised.
    """
    import traceback  # takes long, and most programs end without an error

    for part in chain_of(error):
        traceback.clear_frames(part.__traceback__)


def without_traceback(error: E) -> E:
    """Remove the tracebacks of an error and of its causes, and return it."""
    for part in chain_of(error):
        part.__traceback__ = None
    return error


def copy_to_raise(error: BaseException) -> BaseException:
    """Return a copy of an error, to be raised; the error itself if it cannot be copied.

    Raising an error adds frames to its traceback, and these refer to objects of the program.
    """
    try:
        copied = copy.copy(error)
    except Exception:
        return error
    copied.__cause__, copied.__suppress_context__ = error.__cause__, error.__suppress_context__
    return copied.with_traceback(error.__traceback__)
