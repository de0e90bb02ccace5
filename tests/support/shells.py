"""Ask bash, zsh and fish how they complete a command line."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from .processes import wait_until

_BASH = """\
for script in $1; do
  source "$script"
done
shift
COMP_WORDS=("$@")
COMP_CWORD=$(( $# - 1 ))
COMP_LINE="${COMP_WORDS[*]}"
COMP_POINT=${#COMP_LINE}
function=$(complete -p "$1" | sed 's/.* -F \\([^ ]*\\) .*/\\1/')
$function "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""

# A completion function calls compadd with the words that it proposes. With -O, -A or -D, it only
# asks which of them match.
_ZSH = """\
fpath=({functions} $fpath)
autoload -Uz compinit
compinit -u -D
compadd() {{
  if [[ ${{@[1,(i)(-|--)]}} == *-(O|A|D)\\ * ]]; then
    builtin compadd "$@"
    return
  fi
  local -a _hits
  builtin compadd -O _hits "$@"
  _proposed+=("${{_hits[@]}}")
  builtin compadd "$@"
}}
_propose() {{
  _proposed=()
  _main_complete
  print -rl -- "${{_proposed[@]}}" > {answer}.new
  mv {answer}.new {answer}
  compstate[insert]=''
  compstate[list]=''
}}
zle -C propose complete-word _propose
bindkey '^I' propose
bindkey '^U' kill-whole-line
print ready > {answer}
"""


class Shell(Protocol):
    """A shell that has read completion scripts."""

    def complete(self, line: str) -> set[str]:
        """Return the words by which the shell completes the last word of a line."""
        ...


def _lines(text: str) -> set[str]:
    return {line.rstrip() for line in text.splitlines() if line.strip()}


class Bash:
    """A bash that has read completion scripts."""

    def __init__(self, scripts: Sequence[Path]) -> None:
        self._scripts = " ".join(map(str, scripts))

    def complete(self, line: str) -> set[str]:
        """Return the words by which bash completes the last word of a line."""
        command = ["bash", "--norc", "-ic", _BASH, "bash", self._scripts, *_bash_words(line)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, start_new_session=True, timeout=60
        )
        return _lines(done.stdout)


def _bash_words(line: str) -> Sequence[str]:
    """Separate a line as bash does before it completes a word."""
    lexer = shlex.shlex(line, punctuation_chars="=<>():")
    lexer.whitespace_split = True
    lexer.commenters = ""
    return [*lexer, *([""] if line.endswith(" ") else [])]


class Fish:
    """A fish that has read completion scripts."""

    def __init__(self, scripts: Sequence[Path]) -> None:
        self._scripts = " ".join(f"source {shlex.quote(str(script))};" for script in scripts)

    def complete(self, line: str) -> set[str]:
        """Return the words by which fish completes the last word of a line."""
        command = f"{self._scripts} complete -C {shlex.quote(line)}"
        done = subprocess.run(
            ["fish", "--no-config", "-c", command],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stderr == ""
        return {proposed.partition("\t")[0] for proposed in _lines(done.stdout)}


class Zsh:
    """A zsh at a terminal, as it completes nothing elsewhere, that finds completion scripts."""

    def __init__(self, functions: Path, directory: Path) -> None:
        """Start the shell.

        :param functions: the directory of the completion scripts.
        :param directory: a directory for files of this class.
        """
        self._answer = directory / "answer"
        setup = directory / "setup.zsh"
        setup.write_text(_ZSH.format(functions=functions, answer=self._answer))
        self._terminal, terminal = pty.openpty()
        self._shell = subprocess.Popen(
            ["zsh", "-f", "-i"],
            stdin=terminal,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TERM": "dumb", "HOME": str(directory)},
            start_new_session=True,
        )
        os.close(terminal)
        self._ask(f"source {setup}\n")

    def complete(self, line: str) -> set[str]:
        """Return the words by which zsh completes the last word of a line."""
        return _lines(self._ask(f"\x15{line}\t"))

    def _ask(self, typed: str) -> str:
        self._answer.unlink(missing_ok=True)
        os.write(self._terminal, typed.encode())
        wait_until(self._answer.exists)
        return self._answer.read_text()

    def __enter__(self) -> Zsh:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._shell.kill()
        self._shell.wait()
        os.close(self._terminal)
