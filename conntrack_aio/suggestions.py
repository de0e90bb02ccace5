"""Suggest known names for a mistyped one, in the same words for every error message."""

from __future__ import annotations

from collections.abc import Iterable

_MAX_LENGTH = 40
"""Only this many characters of a name are compared, because comparing long texts takes long."""

_MOST_NAMES = 2

_LEAST_RATIO = 0.62
"""How similar a known name must be, from 0 to 1: ``tcp`` is for ``tpc``, and ``sctp`` is not."""

_LEAST_END = 3
"""How long a name must be to find the known names that end in it."""


def similar_names(name: str, known: Iterable[str]) -> list[str]:
    """Return up to two known names that resemble a name closely, the most similar first.

    ``src`` is closest to ``orig.src``, and ``port`` to ``orig.sport``: the names that end in it.
    """
    # difflib is imported only after a mistake, because that takes time.
    try:
        from difflib import get_close_matches
    except OSError:  # the process has no file descriptor left to read the module
        return []
    text = name[:_MAX_LENGTH].lower()
    names = list(known)
    ending = [each for each in names if _is_end(text, each)]
    similar = get_close_matches(text, names, _MOST_NAMES, _LEAST_RATIO)
    return (ending or similar)[:_MOST_NAMES]


def _is_end(text: str, name: str) -> bool:
    """Return whether the last word of a name ends in a text, which is at least half of it."""
    word = name.replace("_", ".").replace("-", ".").rpartition(".")[2]
    return len(text) >= max(_LEAST_END, len(word) / 2) and word.endswith(text)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a hint for an error message: ``; did you mean 'orig.dport'?``.

    :returns: empty text if no known name resembles the name.
    """
    return did_you_mean(similar_names(name, known))


def did_you_mean(names: Iterable[str]) -> str:
    """Return the hint that suggests some names, or empty text for none."""
    quoted = [repr(name) for name in names]
    if not quoted:
        return ""
    *first, last = quoted
    return f"; did you mean {', '.join(first)} or {last}?" if first else f"; did you mean {last}?"
