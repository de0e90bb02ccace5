"""Positions in a queue that is not numbered."""

from __future__ import annotations

import random

from conntrack_aio.netlink.progress import Progress

COST = 512


def test_what_waited_is_behind_when_the_queue_is_empty() -> None:
    progress = Progress(COST)
    mark = progress.mark(100 * COST)
    progress.read(3)
    assert progress.told < mark
    progress.dry()
    assert progress.told >= mark
    assert progress.mark(0) == progress.told


def test_what_waited_is_behind_when_as_much_was_read() -> None:
    progress = Progress(COST)
    progress.read(7)
    mark = progress.mark(3 * COST + 1)
    for left in (2, 1, 0):
        progress.read(1)
        assert (progress.told >= mark) is (left == 0)


def test_a_gap_is_waited_for() -> None:
    progress = Progress(COST)
    before = progress.mark(2 * COST)
    progress.open_gap(4 * COST)
    within = progress.mark(0)
    progress.read(4)
    assert progress.until_gap == 0
    assert progress.told < min(before, within)
    progress.close_gap()
    assert not progress.has_gap
    assert progress.told >= max(before, within)


def test_a_gap_itself_is_something_to_be_told() -> None:
    progress = Progress(COST)
    progress.open_gap(4 * COST)
    mark = progress.mark(0)
    progress.close_gap()
    assert progress.told >= mark


def test_drops_without_a_gap_are_waited_for() -> None:
    progress = Progress(COST)
    mark = progress.mark(0, lost=True)
    assert progress.told < mark
    progress.dry()
    assert progress.told >= mark


def test_against_a_queue_whose_messages_are_numbered() -> None:
    """No mark is ever passed while anything of then waits, and each is once the queue was empty."""
    rng = random.Random(5)
    progress = Progress(COST)
    queued = read = 0
    marks: list[tuple[int, int]] = []
    for _ in range(20_000):
        match rng.randrange(4):
            case 0:
                queued += rng.randrange(30)
            case 1:
                cost = rng.choice([COST, 1280, 4000])
                marks.append((progress.mark((queued - read) * cost), queued))
            case 2:
                count = min(rng.randrange(40), queued - read)
                read += count
                progress.read(count)
            case _ if read == queued:
                progress.dry()
                assert all(mark <= progress.told for mark, _ in marks)
            case _:
                pass
        for mark, last in marks:
            assert mark > progress.told or last <= read
        marks = [each for each in marks if each[0] > progress.told]
