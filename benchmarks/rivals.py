"""Which other libraries, programs and event loops there are to measure with."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import attrs

from .contenders import command, library, pyroute

BACKENDS: Final = ("uvloop", "trio")
"""Beside asyncio's own loop."""


@attrs.frozen
class Rivals:
    """What was found, and in words what was not."""

    program: Path | None
    """The one that uses libnetfilter_conntrack, compiled."""
    versions: Mapping[str, str]
    """By name, of all that there are."""
    missing: tuple[str, ...]

    @classmethod
    def find(cls, directory: Path) -> Rivals:
        """Look for them; the directory takes what is compiled."""
        program: Path | None = None
        versions: dict[str, str] = {}
        missing: list[str] = []
        try:
            program = library.compile_rival(directory)
            versions[library.NAME] = _said("pkg-config", "--modversion", library.NAME)
        except library.NotCompiled as error:
            missing.append(f"{library.NAME} is left out: {error}")
        if said := _said("conntrack", "--version"):
            versions[command.NAME] = said
        else:
            missing.append("conntrack(8) is left out: apt-get install conntrack")
        for name in (pyroute.NAME, *BACKENDS):
            try:
                versions[name] = version(name)
            except PackageNotFoundError:
                missing.append(f"{name} is left out: pip install {name}")
        return cls(program, versions, tuple(missing))

    def __contains__(self, name: str) -> bool:
        return name in self.versions


def _said(*words: str) -> str:
    """The first line that a program prints; nothing if there is none."""
    try:
        output = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""
    return output.partition("\n")[0].strip()
