"""A match as what the kernel filters a dump by: perhaps less than the match, never other."""

from __future__ import annotations

from socket import AF_UNSPEC
from typing import NamedTuple

from .match import Match


class DumpFilter(NamedTuple):
    """The family of the request's header, and a mark with its mask."""

    family: int = AF_UNSPEC
    mark: int | None = None
    mark_mask: int | None = None


def compile_dump(match: Match | None) -> DumpFilter:
    """What the kernel can do of ``match``; it may let too much through.

    The mask is always sent with the mark: kernels before 5.8 ignore a mark without one. A mask
    alone is never sent: it would filter nothing or be refused.
    """
    if match is None:
        return DumpFilter()
    family = AF_UNSPEC if match.family is None else match.family
    if match.mark is None or match.mask == 0:
        return DumpFilter(family)
    return DumpFilter(family, match.mark, match.mask)
