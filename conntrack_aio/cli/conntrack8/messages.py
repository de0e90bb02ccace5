"""Messages on standard error in the form of conntrack(8), and the failures that they report.

- A message about a command that cannot be parsed exits with status 2, any other with status 1.
- Standard output is written before a message: both often go to one terminal.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Final

from ... import __version__
from .actions import Action

PROGRAM: Final = "conntrack"
"""The name that the program has in messages, whatever it was started as."""

VERSION_LINE: Final = f"{PROGRAM} v{__version__} (conntrack_aio)"

_HINT: Final = "Try `conntrack -h' or 'conntrack --help' for more information.\n"

OK: Final = 0
FAILED: Final = 1
INVALID_ARGUMENTS: Final = 2


class CommandFailure(Exception):
    """The command ends with a message."""

    def __init__(self, text: str, status: int = FAILED) -> None:
        """Create a failure.

        :param text: the message, without the version.
        :param status: the exit status.
        """
        super().__init__(text)
        self.text = text
        self.status = status


def invalid(text: str) -> CommandFailure:
    """Return the failure for arguments that are not valid."""
    return CommandFailure(text, INVALID_ARGUMENTS)


def report_failure(failure: CommandFailure) -> int:
    """Report a failure on standard error, and return its exit status."""
    report(failure.text, _HINT if failure.status == INVALID_ARGUMENTS else "")
    return failure.status


def report(text: str, more: str = "") -> None:
    """Write a message with the version to standard error.

    :param text: the message.
    :param more: further lines, without the version.
    """
    _write(f"{VERSION_LINE}: {text}\n{more}")


def warn(text: str) -> None:
    """Write a line without the version to standard error."""
    _write(f"{text}\n")


def _write(text: str) -> None:
    from ..output import flush_output

    flush_output()
    try:
        sys.stderr.write(text)
    except OSError:
        pass


_FLOW_CREATION: Final = frozenset({Action.CREATE})
_FLOW_ACCESS: Final = frozenset({Action.CREATE, Action.GET, Action.DELETE})
_TEXTS: Final = (
    # EINVAL of -A has the text of strerror(), as in the program.
    (frozenset(Action) - {Action.ADD}, errno.EINVAL, "invalid parameters"),
    (_FLOW_CREATION, errno.EEXIST, "Such conntrack exists, try -U to update"),
    (_FLOW_ACCESS, errno.ENOENT, "such conntrack doesn't exist"),
    (_FLOW_ACCESS | {Action.ADD}, errno.ENOMEM, "not enough memory"),  # also for a full table
    (frozenset({Action.GET}), errno.EAFNOSUPPORT, "protocol not supported"),
    (_FLOW_CREATION, errno.ETIME, "conntrack has expired"),
    (frozenset({Action.EXPECT_CREATE}), errno.ENOENT, "master conntrack not found"),
    (
        frozenset(Action),
        errno.EPERM,
        "sorry, you must be root or get CAP_NET_ADMIN capability to do this",
    ),
)


def operation_failed(action: Action, code: int) -> CommandFailure:
    """Return the failure for an error of the kernel.

    :param action: what was requested.
    :param code: the error number.
    """
    return CommandFailure(f"Operation failed: {describe_errno(action, code)}")


def describe_errno(action: Action, code: int) -> str:
    """Return the text of an error number, which depends on the action."""
    for actions, number, text in _TEXTS:
        if number == code and action in actions:
            return text
    return os.strerror(code)
