"""Get the script that completes command lines: the one that was built, or a new one."""

from __future__ import annotations

from ..failures import CommandError
from .scripts import built_path, make_script


def script_of(shell: str, program: str) -> str:
    """Return the script by which a shell completes the command lines of a program.

    An editable installation has no scripts, and so they are made if shtab is installed.

    :param shell: the name of the shell.
    :param program: the name of the program.
    :raises CommandError: when there is no script, and shtab is not installed.
    """
    try:
        return built_path(shell, program).read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    try:
        return make_script(shell, program)
    except ModuleNotFoundError:
        raise CommandError(
            "this installation has no scripts, as it was not built from a wheel; install without "
            "-e or, to make them, install the package shtab"
        ) from None
