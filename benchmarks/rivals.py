"""Find the other libraries, programs and event loops that are installed."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import attrs

from .contenders import command, library, pyroute

BACKENDS: Final = ("uvloop", "trio")
"""The event loops that are measured besides the default loop of asyncio."""


@attrs.frozen
class Rivals:
    """The rivals that were found, and how to install the others."""

    program: Path | None
    """The compiled program that uses libnetfilter_conntrack."""
    go: Path | None
    """A program that the user named."""
    versions: Mapping[str, str]
    """The version of each rival that was found, by name."""
    missing: tuple[str, ...]
    """For each rival that was not found, how to install it."""

    @classmethod
    def find(cls, directory: Path, go: Path | None = None) -> Rivals:
        """Look for the rivals.

        :param directory: where to put the compiled program.
        :param go: a program that the user named.
        """
        program: Path | None = None
        versions: dict[str, str] = {}
        missing: list[str] = []
        try:
            program = library.compile_rival(directory)
            versions[library.NAME] = _first_line_of("pkg-config", "--modversion", library.NAME)
        except library.NotCompiled as error:
            missing.append(f"{library.NAME} is left out: {error}")
        if line := _first_line_of("conntrack", "--version"):
            versions[command.NAME] = line
        else:
            missing.append("conntrack(8) is left out: apt-get install conntrack")
        for name in (pyroute.NAME, *BACKENDS):
            try:
                versions[name] = version(name)
            except PackageNotFoundError:
                missing.append(f"{name} is left out: pip install {name}")
        return cls(program, go, versions, tuple(missing))

    def __contains__(self, name: str) -> bool:
        return name in self.versions


def _first_line_of(*command: str) -> str:
    """Return the first line that a command prints, or an empty string if it is not installed."""
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""
    return output.partition("\n")[0].strip()
