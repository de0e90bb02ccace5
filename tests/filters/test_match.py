"""A match as a predicate, and as what the kernel filters by."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC

import attrs
import pytest
from support import flows

from conntrack_aio import Match, Status
from conntrack_aio.filters.dump import DumpFilter, compile_dump

V4, V6 = flows.tcp(mark=5), flows.udp6(mark=0)
UNTOLD = flows.tcp()


@pytest.mark.parametrize(
    ("match", "flow", "result"),
    [
        (Match(), V4, True),
        (Match(), UNTOLD, True),
        (Match(mark=5), V4, True),
        (Match(mark=4), V4, False),
        (Match(mark=4, mark_mask=4), V4, True),
        (Match(mark=0, mark_mask=2), V4, True),
        (Match(mark=0), V6, True),
        (Match(mark=0), UNTOLD, False),
        (Match(mark=0, mark_mask=0), UNTOLD, True),
        (Match(family=AF_INET), V4, True),
        (Match(family=AF_INET), V6, False),
        (Match(family=AF_INET6, mark=0), V6, True),
        (Match(family=AF_INET6, mark=5), V4, False),
    ],
)
def test_a_predicate(match: Match, flow: object, result: bool) -> None:
    assert match(flow) is result  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mark": -1}, "32 bits"),
        ({"mark": 1 << 32}, "32 bits"),
        ({"mark": 0, "mark_mask": 1 << 32}, "32 bits"),
        ({"mark_mask": 1}, "there is no mark"),
        ({"mark": 3, "mark_mask": 1}, "never true"),
        ({"family": AF_UNIX}, "neither AF_INET nor AF_INET6"),
        ({"family": AF_UNSPEC}, "neither AF_INET nor AF_INET6"),
    ],
)
def test_a_mistake_is_told_when_it_is_made(values: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Match(**values)


def test_bits_that_the_masks_own_enum_has_not() -> None:
    with pytest.raises(ValueError, match="never true"):
        Match(mark=1 << 20, mark_mask=Status.EXPECTED)


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
def test_a_tuple_of_two_families_is_no_error(family: int) -> None:
    """Bytes may say so; a dump that is filtered must not fail over it."""
    torn = attrs.evolve(V4, orig=attrs.evolve(V4.orig, dst=V6.orig.dst))
    assert Match(family=family)(torn) is (family == AF_INET)


def test_a_match_is_a_value() -> None:
    assert {Match(mark=1), Match(mark=1), Match(mark=2)} == {Match(mark=2), Match(mark=1)}
    with pytest.raises(AttributeError):
        Match().mark = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("match", "always"),
    [
        (Match(), True),
        (Match(mark=0, mark_mask=0), True),
        (Match(mark=0), False),
        (Match(family=AF_INET), False),
        (Match(mark=0, mark_mask=0, family=AF_INET), False),
    ],
)
def test_always(match: Match, always: bool) -> None:
    assert match.always is always


@pytest.mark.parametrize(
    ("match", "compiled"),
    [
        (None, DumpFilter()),
        (Match(), DumpFilter()),
        # a mask always goes with a mark, and never alone
        (Match(mark=0), DumpFilter(AF_UNSPEC, 0, 0xFFFFFFFF)),
        (Match(mark=4, mark_mask=4), DumpFilter(AF_UNSPEC, 4, 4)),
        (Match(mark=0, mark_mask=0), DumpFilter()),
        (Match(family=AF_INET6, mark=1), DumpFilter(AF_INET6, 1, 0xFFFFFFFF)),
    ],
)
def test_what_the_kernel_filters_by(match: Match | None, compiled: DumpFilter) -> None:
    assert compile_dump(match) == compiled
