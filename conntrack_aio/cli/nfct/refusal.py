"""The error of commands of ``nfct``, and the words that introduce it."""

from __future__ import annotations

import os
from typing import Final

from ... import __version__
from ...errors import ConntrackError, KernelError

VERSION: Final = f"nfct v{__version__} (conntrack_aio)"
"""The name and version that precede each message."""


class Refused(Exception):
    """The command cannot do what was asked.

    The first argument is the message. The others are further lines, such as the syntax.
    """

    def __str__(self) -> str:
        message, *lines = self.args
        return "\n".join([f"{VERSION}: {message}", *lines])


def refused_by_kernel(code: int) -> Refused:
    """Return the error for an errno of the kernel."""
    return Refused(f"netlink error: {os.strerror(code)}")


def as_refused(error: ConntrackError) -> Refused:
    """Return the error of the command for an error of the library."""
    if isinstance(error, KernelError) and error.errno is not None:
        return refused_by_kernel(error.errno)
    return Refused(str(error))


def too_many() -> Refused:
    """Return the error for arguments that the command has no use for."""
    return Refused("too many arguments")


def missing(syntax: str) -> Refused:
    """Return the error for too few arguments.

    :param syntax: the arguments of the command.
    """
    return Refused("missing parameters", f"syntax: nfct {syntax}")
