"""Suggest known names for a mistyped one, in the same words for every error message."""

from __future__ import annotations

from collections.abc import Iterable

_MAX_LENGTH = 40
"""Only this many characters of a name are compared, because comparing long texts takes long."""


def similar_names(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three known names that resemble a name, the most similar first."""
    # difflib is imported only after a mistake, because that takes time.
    try:
        from difflib import get_close_matches
    except OSError:  # the process has no file descriptor left to read the module
        return []
    return get_close_matches(name[:_MAX_LENGTH].lower(), known, 3, 0.5)


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
