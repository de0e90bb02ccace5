"""Say how a shell completes the value of an option or argument."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Final

from ...model.enums import Status, TCPState
from ...model.settings import SETTINGS
from ..flow_columns import COLUMNS
from ..parsing import words_of
from .match_functions import bash_match_functions, fish_match_functions, zsh_match_functions
from .match_words import TRACKED_PROTOCOLS

Completion = dict[str, object]
"""What shtab takes as the completion of a value: a function of each shell, and under ``preamble``
the definitions of these functions."""

# The word may be --option=value.
_FISH_VALUE: Final = "(string replace -r '^--[^=]*=' '' -- (commandline -ct))"

FILE: Final[Completion] = {
    "bash": "_shtab_compgen_files",
    "zsh": "_files",
    "fish": f"(__fish_complete_path {_FISH_VALUE})",
}
DIRECTORY: Final[Completion] = {
    "bash": "_shtab_compgen_dirs",
    "zsh": "_files -/",
    "fish": f"(__fish_complete_directories {_FISH_VALUE})",
}


def names_of_namespaces() -> Completion:
    """Return the completion of a network namespace: a name of ``ip netns``, or a path."""
    return {
        "bash": "_conntrack_aio_netns",
        "zsh": "_conntrack_aio_netns",
        "fish": f"(command ls /run/netns 2>/dev/null; __fish_complete_path {_FISH_VALUE})",
        "preamble": {
            "bash": """\
_conntrack_aio_netns() {
  case $1 in
    */*) compgen -f -- "$1" ;;
    *) compgen -W "$(command ls /run/netns 2>/dev/null)" -- "$1" ;;
  esac
}
""",
            "zsh": """\
_conntrack_aio_netns() {
  if [[ $PREFIX == */* ]]; then
    _files
  else
    compadd -- /run/netns/*(N:t)
  fi
}
""",
        },
    }


def words_of_matches() -> Completion:
    """Return the completion of the arguments that are the text of a match."""
    return {
        "bash": "_conntrack_aio_match",
        "zsh": "_conntrack_aio_match",
        "fish": "(_conntrack_aio_match_words)",
        "preamble": {
            "bash": bash_match_functions(),
            "zsh": zsh_match_functions(),
            "fish": fish_match_functions(),
        },
    }


def comma_separated(words: Sequence[str]) -> Completion:
    """Return the completion of several words that commas separate."""
    # Functions of the same name are the same one.
    function = "_conntrack_aio_list_" + "_".join(words[:3]).replace(".", "_") + f"_{len(words)}"
    listed = " ".join(words)
    return {
        "bash": function,
        "zsh": f"_values -s , word {listed}",
        "fish": f"(__fish_append , {listed})",
        "preamble": {
            "bash": f"""\
{function}() {{
  local _before=""
  [[ $1 == *,* ]] && _before="${{1%,*}},"
  compgen -P "$_before" -W "{listed}" -- "${{1##*,}}"
}}
"""
        },
    }


WORDS: Final[dict[str, Callable[[], Sequence[str]]]] = {
    "FIELD": lambda: tuple(COLUMNS),
    "FAMILY": lambda: ("ipv4", "ipv6"),
    "PROTO": lambda: TRACKED_PROTOCOLS,
    "STATE": lambda: tuple(TCPState.__members__),
    "NAME[=VALUE]": lambda: tuple(SETTINGS),
}
"""The words that a value can be, by what the help calls the value."""

LISTS: Final[dict[str, Callable[[], Sequence[str]]]] = {
    "FIELD[,FIELD]": lambda: tuple(COLUMNS),
    "BIT[,BIT]": lambda: tuple(Status.__members__),
}
"""The words that a value can consist of, by what the help calls the value."""


def completion_of(action: argparse.Action) -> Completion | None:
    """Return how a value is completed; ``None`` if its words are unknown, or its choices."""
    metavar = action.metavar
    if "--netns" in action.option_strings:
        return names_of_namespaces()
    if metavar == "MATCH":
        return words_of_matches()
    if metavar == "FILE":
        return FILE
    if metavar == "DIR":
        return DIRECTORY
    if words := words_of(action):
        return comma_separated(words)
    if metavar in LISTS:
        return comma_separated(LISTS[metavar]())
    return None
