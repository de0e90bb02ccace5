"""Find the causes of an error, and free the objects to which their tracebacks refer."""

from __future__ import annotations

import traceback


def chain_of(error: BaseException) -> list[BaseException]:
    """Return an error and its causes, each once.

    The chain may have a cycle: ``raise error from error`` makes an error its own cause.
    """
    chain: list[BaseException] = []
    part: BaseException | None = error
    while part is not None and part not in chain:
        chain.append(part)
        part = part.__cause__ or part.__context__
    return chain


def clear_frames(error: BaseException) -> None:
    """Clear the frames in the tracebacks of an error and of its causes.

    The tracebacks still show where the errors were raised.
    """
    for part in chain_of(error):
        traceback.clear_frames(part.__traceback__)
