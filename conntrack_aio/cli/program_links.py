"""Make links to the program under the names of conntrack(8) and nfct(8)."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Final

from .failures import CommandError

LINKED_NAMES: Final = ("conntrack", "nfct")
"""The names under which the program takes the arguments of other programs."""


def path_of_program(started: str) -> str:
    """Return the path of the program, for links.

    :param started: the program's name as Python has it, ``sys.argv[0]``.
    :raises CommandError: when that is no program, as with ``python -m conntrack_aio``.
    """
    path = os.path.abspath(started)
    if path.endswith(".py") or not (os.path.isfile(path) and os.access(path, os.X_OK)):
        raise CommandError(
            "a link cannot start `python -m conntrack_aio`; run the installed program instead: "
            "conntrack-aio install-links DIR"
        )
    return path


def make_links(program: str, directory: str, *, replace: bool) -> list[tuple[str, bool]]:
    """Make the links, and return the path of each, and whether it is new.

    No link is made if one of them would replace something else.

    :param program: the path to which they lead.
    :param directory: the directory in which they are made.
    :param replace: whether to replace files and other links of these names.
    :raises CommandError: when the directory does not exist, or when something would be replaced.
    :raises OSError: when a link cannot be made.
    """
    if not os.path.isdir(directory):
        raise CommandError(f"{directory}: there is no such directory")
    links = [os.path.join(os.path.abspath(directory), name) for name in LINKED_NAMES]
    missing = [link for link in links if not _leads_to(link, program)]
    for link in missing:
        if os.path.isdir(link) and not os.path.islink(link):
            raise CommandError(f"{link} is a directory; no link was made")
        if os.path.lexists(link) and not replace:
            raise CommandError(
                f"{link} exists and is no link to this program; no link was made; "
                "--force replaces it"
            )
    for link in missing:
        _make_link(program, link)
    return [(link, link in missing) for link in links]


def _leads_to(link: str, program: str) -> bool:
    return os.path.islink(link) and os.path.realpath(link) == os.path.realpath(program)


def _make_link(program: str, link: str) -> None:
    """Make a link. What it replaces is there until the link is."""
    with tempfile.TemporaryDirectory(prefix=".link", dir=os.path.dirname(link)) as directory:
        new = os.path.join(directory, os.path.basename(link))
        os.symlink(program, new)
        os.replace(new, link)


def earlier_in_path(link: str) -> str | None:
    """Return the reason why a shell does not start a link by its name; ``None`` if it does."""
    directory, name = os.path.split(link)
    found = shutil.which(name)
    if found is not None and os.path.realpath(found) == os.path.realpath(link):
        return None
    searched = [os.path.realpath(each) for each in os.environ.get("PATH", "").split(os.pathsep)]
    if os.path.realpath(directory) not in searched:
        other = "" if found is None else f"; it starts {found}"
        return f"{directory} is not in PATH, so that a shell does not find {name} there{other}"
    if found is None:
        return f"{link} cannot be started"
    return f"a shell starts {found} as {name}, which comes first in PATH"
