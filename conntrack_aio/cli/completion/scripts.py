"""Make the scripts that complete command lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from ..command import build_parser
from ..parsing import Parser
from .other_languages import conntrack_parser, nfct_parser
from .values import WORDS, completion_of

SHELLS: Final = ("bash", "zsh", "fish")

BUILT: Final = Path(__file__).with_name("built")
"""The folder of the scripts that were made when the package was built. It is not there in an
editable installation."""

PARSERS: Final[Mapping[str, Callable[[], Parser]]] = {
    "conntrack-aio": build_parser,
    "conntrack": conntrack_parser,
    "nfct": nfct_parser,
}
"""A function that makes the parser of each program."""

_INSTALLED: Final = {
    "bash": "bash-completion/completions/{}",
    "zsh": "zsh/site-functions/_{}",
    "fish": "fish/vendor_completions.d/{}.fish",
}

# Bash separates words also at an equals sign. shtab expects --option=value in one or two words.
_BASH_EQUALS: Final = """

_{function}() {{
  local -a _words=("${{COMP_WORDS[@]}}")
  local _at=$COMP_CWORD _index
  for (( _index = 1; _index <= _at; _index++ )); do
    [[ ${{_words[_index]}} == = ]] || continue
    case ${{_words[_index-1]}} in
      '!') _words[_index]="!=" ;;
      --*) (( _index < _at )) || {{ _words[_index]=""; break; }} ;;
      *) continue ;;
    esac
    if [[ ${{_words[_index]}} == = ]]; then
      _words=("${{_words[@]:0:_index}}" "${{_words[@]:_index+1}}")
    else
      _words=("${{_words[@]:0:_index-1}}" "${{_words[@]:_index}}")
    fi
    (( _at--, _index-- ))
  done
  local -a COMP_WORDS=("${{_words[@]}}")
  local COMP_CWORD=$_at
  _shtab_{function} "$@"
}}

complete -o bashdefault -F _{function} {program}
"""


def installed_path(shell: str, program: str) -> str:
    """Return where a shell finds the script of a program, below the folder ``share``."""
    return _INSTALLED[shell].format(program)


def built_path(shell: str, program: str) -> Path:
    """Return the file with a script that was made when the package was built."""
    return BUILT / f"{program}.{shell}"


def make_script(shell: str, program: str) -> str:
    """Return the script by which a shell completes the command lines of a program.

    :param shell: one of :data:`SHELLS`.
    :param program: the name of the program, one of :data:`PARSERS`.
    :raises ImportError: when shtab is not installed.
    """
    shtab: Any = import_module("shtab")
    parser = PARSERS[program]()
    _describe_values(parser, shell)
    script: str = shtab.complete(parser, shell)
    return _FINISH[shell](script, program)


def _describe_values(parser: Parser, shell: str) -> None:
    """Attach to each option and argument how it is completed. The parser is of no other use."""
    for action in parser.arguments:
        completion = completion_of(action)
        if completion is not None:
            vars(action)["complete"] = completion
        elif isinstance(action.metavar, str) and action.metavar in WORDS:
            action.choices = WORDS[action.metavar]()
        if shell == "zsh" and isinstance(action.metavar, str):
            # Otherwise, it ends at the colon. Subcommands share some options.
            action.metavar = re.sub(r"(?<!\\):", r"\:", action.metavar)
    for subcommand in parser.subcommands.values():
        subcommand.description = subcommand.summary  # shtab describes the subcommand by it
        _describe_values(subcommand, shell)


def _finish_bash(script: str, program: str) -> str:
    function = re.sub(r"\W", "_", program)
    return script + _BASH_EQUALS.format(function=function, program=program)


def _finish_zsh(script: str, _: str) -> str:
    # shtab completes only the first of several words, and no value after an equals sign.
    script = re.sub(r'^(  )"\(\*\)::', r'\1"*:', script, flags=re.MULTILINE)
    return re.sub(r'^(  "\*?--[\w-]+)(\[.*\]:)', r"\1=\2", script, flags=re.MULTILINE)


def _finish_fish(script: str, _: str) -> str:
    return script


_FINISH: Final[Mapping[str, Callable[[str, str], str]]] = {
    "bash": _finish_bash,
    "zsh": _finish_zsh,
    "fish": _finish_fish,
}


def make_all(programs: Iterable[str] = PARSERS) -> dict[tuple[str, str], str]:
    """Return the scripts of all shells, by shell and program.

    :raises ImportError: when shtab is not installed.
    """
    return {
        (shell, program): make_script(shell, program) for shell in SHELLS for program in programs
    }
