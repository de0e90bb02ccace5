"""What becomes of a failure: a sentence on standard error, and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ..errors import ConntrackError

_STDOUT = 1


def guarded(action: Callable[[], int | None]) -> int:
    """Act; a failure becomes a sentence and an exit status."""
    try:
        status = action() or 0
        # What can't be written is to fail here, not while Python exits.
        print(end="", flush=True)
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader had enough
        _discard_output()
        return 0
    except ConntrackError as error:
        return complain(error)
    except OSError as error:
        _discard_output()
        return complain(error)


def _discard_output() -> None:
    """Python flushes once more when it exits, and would complain once more."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, _STDOUT)
    os.close(devnull)


def complain(error: BaseException) -> int:
    """Say what went wrong, on standard error; the exit status."""
    print(f"conntrack-aio: {error}", file=sys.stderr)
    return 1
