"""Run the command ``nfct``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from ...errors import ConntrackError
from ..failures import guarded
from ..output import flush_output, report_bytes, write_bytes
from ..running import run_requests
from .grammar import parse
from .refusal import VERSION, Refused, as_refused

if TYPE_CHECKING:
    from .timeouts import Action

_ABOUT: Final = f"""\
{VERSION}: utility for the Netfilter's Connection Tracking System
Copyright (C) the conntrack_aio authors
This program comes with ABSOLUTELY NO WARRANTY.
This is free software under the MIT License.
"""


def run(arguments: Sequence[str]) -> int:
    """Do what the arguments ask, and return the exit status: 0, or 1 for a failure.

    :param arguments: the command line without the program's name.
    """
    return guarded(lambda: _run([_as_utf8(word) for word in arguments]))


def _as_utf8(word: str) -> str:
    """Return an argument with the text that its bytes have in UTF-8, in any locale.

    The library and the kernel exchange names as UTF-8. Other bytes become surrogates.
    """
    return os.fsencode(word).decode(errors="surrogateescape")


def _run(words: Sequence[str]) -> int:
    try:
        output = _execute(words)
    except Refused as error:
        return _fail(error)
    except ConntrackError as error:
        return _fail(as_refused(error))
    write_bytes(output.encode(errors="surrogateescape"))
    return 0


def _fail(error: Refused) -> int:
    flush_output()
    report_bytes(f"{error}\n".encode(errors="surrogateescape"))
    return 1


def _execute(words: Sequence[str]) -> str:
    """Run the command, and return its output."""
    command, subsystem, parameters = parse(words)
    if subsystem == "version":
        return _ABOUT
    # A wrong word is reported without the time that these modules take to load.
    if subsystem == "timeout":
        from .timeouts import timeout_action as action_of
    else:
        from .helpers import helper_action as action_of
    return run_requests(partial(_act, action_of(command, parameters)))


async def _act(action: Action) -> str:
    from ...connecting import connect

    async with connect() as conn:
        return await action(conn)
