"""Write the shell functions that complete the words of a match."""

from __future__ import annotations

from string import Template
from typing import Final

from .match_words import COMPARISONS, EQUALITY, MatchWords, match_words

# Bash and zsh read this alike. The arguments are the two words before the one to complete.
_POSIX: Final = Template("""\
_conntrack_aio_match_values() {
  case $$1 in
    $values
  esac
}

_conntrack_aio_match_words() {
  case $$2 in
    *, | *'{') return ;;
  esac
  case $$1 in
    $fields)
      case $$2 in
        $equality) _conntrack_aio_match_values "$$1" ;;
        $comparisons) ;;
        *) echo "and or" ;;
      esac ;;
    $equality | $comparisons | to) echo "and or" ;;
    *)
      case $$2 in
        $fields) echo "$operators $$(_conntrack_aio_match_values "$$2")" ;;
        $translations) echo "to and or" ;;
        $keywords | *')' | *'}') echo "and or" ;;
        to) ;;
        *) echo "$conditions" ;;
      esac ;;
  esac
}
""")

_FISH: Final = Template("""\
function _conntrack_aio_match_values
  switch "$$argv[1]"
    $values
  end
end

function _conntrack_aio_match_words
  set -l tokens (commandline -opc)
  set -l second "$$tokens[-2]"
  set -l last "$$tokens[-1]"
  if string match -q -- '*,' "$$last"; or string match -q -- '*{' "$$last"
    return
  end
  switch "$$second"
    case $fields
      switch "$$last"
        case $equality
          _conntrack_aio_match_values "$$second"
        case $comparisons
        case '*'
          string split ' ' "and or"
      end
    case $equality $comparisons to
      string split ' ' "and or"
    case '*'
      switch "$$last"
        case $fields
          string split ' ' "$operators"
          _conntrack_aio_match_values "$$last"
        case $translations
          string split ' ' "to and or"
        case $keywords '*)' '*}'
          string split ' ' "and or"
        case to
        case '*'
          string split ' ' "$conditions"
      end
  end
end
""")

_BASH_COMPLETION: Final = """
_conntrack_aio_match() {
  compgen -W "$(
    _conntrack_aio_match_words "${COMP_WORDS[COMP_CWORD-2]}" "${COMP_WORDS[COMP_CWORD-1]}"
  )" -- "$1"
}
"""

_ZSH_COMPLETION: Final = """
_conntrack_aio_match() {
  local -a _words
  _words=(${=$(_conntrack_aio_match_words "${words[CURRENT-2]}" "${words[CURRENT-1]}")})
  compadd -- $_words
}
"""


def bash_match_functions() -> str:
    """Return ``_conntrack_aio_match`` and what it calls, for bash."""
    return _posix() + _BASH_COMPLETION


def zsh_match_functions() -> str:
    """Return ``_conntrack_aio_match`` and what it calls, for zsh."""
    return _posix() + _ZSH_COMPLETION


def fish_match_functions() -> str:
    """Return ``_conntrack_aio_match_words`` and what it calls, for fish."""
    words = match_words()
    values = (
        f"case {name}\n      string split ' ' \"{' '.join(names)}\""
        for name, names in words.fields.items()
        if names
    )
    return _FISH.substitute(_parts(words, " "), values="\n    ".join(values))


def _posix() -> str:
    words = match_words()
    values = (
        f'{name}) echo "{" ".join(names)}" ;;' for name, names in words.fields.items() if names
    )
    return _POSIX.substitute(_parts(words, " | "), values="\n    ".join(values))


def _parts(words: MatchWords, separator: str) -> dict[str, str]:
    """Return the parts of the templates.

    :param words: the words of matches.
    :param separator: what is between the patterns of a case.
    """

    def patterns(names: tuple[str, ...]) -> str:
        return separator.join(f"'{name}'" for name in names)

    return {
        "fields": patterns(tuple(words.fields)),
        "equality": patterns(EQUALITY),
        "comparisons": patterns(COMPARISONS),
        "translations": patterns(words.translations),
        "keywords": patterns(words.keywords),
        "conditions": " ".join(words.conditions),
        "operators": " ".join((*EQUALITY, *COMPARISONS)),
    }
