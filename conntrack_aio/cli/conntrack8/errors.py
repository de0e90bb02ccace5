"""Turn errors of the library into the failures that conntrack(8) reports."""

from __future__ import annotations

import errno

from ...errors import ConntrackError, EncodeError, MatchError, NoReply
from .actions import Action
from .messages import CommandFailure, operation_failed


def errno_of(error: ConntrackError) -> int | None:
    """Return the error number that the kernel reports for an error; ``None`` if there is none.

    The library refuses requests that the kernel would refuse with EINVAL.
    """
    if isinstance(error, EncodeError | MatchError):
        return errno.EINVAL
    if isinstance(error, NoReply):
        return errno.ETIMEDOUT
    return error.errno if isinstance(error, OSError) else None


def failure_of(action: Action, error: ConntrackError) -> CommandFailure:
    """Return the failure to report for an error.

    :param action: what was requested.
    """
    code = errno_of(error)
    if code is None:
        return CommandFailure(f"Operation failed: {error}")
    return operation_failed(action, code)
