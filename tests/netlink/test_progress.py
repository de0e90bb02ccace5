"""Positions in a queue whose messages are not numbered."""

from __future__ import annotations

import random

from conntrack_aio.netlink.progress import Progress

COST = 512


def test_an_empty_queue_has_been_read() -> None:
    progress = Progress(COST)
    position = progress.position_after(100 * COST)
    progress.note_read(3)
    assert progress.reported_position < position
    progress.note_drained()
    assert progress.reported_position >= position
    assert progress.position_after(0) == progress.reported_position


def test_what_waited_has_been_read_once_as_much_was_read() -> None:
    progress = Progress(COST)
    progress.note_read(7)
    position = progress.position_after(3 * COST + 1)
    for left in (2, 1, 0):
        progress.note_read(1)
        assert (progress.reported_position >= position) is (left == 0)


def test_a_gap_is_waited_for() -> None:
    progress = Progress(COST)
    before = progress.position_after(2 * COST)
    progress.open_gap(4 * COST)
    within = progress.position_after(0)
    progress.note_read(4)
    assert progress.until_gap == 0
    assert progress.reported_position < min(before, within)
    progress.close_gap()
    assert not progress.has_gap
    assert progress.reported_position >= max(before, within)


def test_a_gap_itself_is_something_to_be_reported() -> None:
    progress = Progress(COST)
    progress.open_gap(4 * COST)
    position = progress.position_after(0)
    progress.close_gap()
    assert progress.reported_position >= position


def test_drops_without_a_gap_are_waited_for() -> None:
    progress = Progress(COST)
    position = progress.position_after(0, lost=True)
    assert progress.reported_position < position
    progress.note_drained()
    assert progress.reported_position >= position


def test_against_a_queue_whose_messages_are_numbered() -> None:
    """No position is reached while older messages wait; all are once the queue was empty."""
    rng = random.Random(5)
    progress = Progress(COST)
    queued = read = 0
    positions: list[tuple[int, int]] = []
    for _ in range(20_000):
        match rng.randrange(4):
            case 0:
                queued += rng.randrange(30)
            case 1:
                cost = rng.choice([COST, 1280, 4000])
                positions.append((progress.position_after((queued - read) * cost), queued))
            case 2:
                count = min(rng.randrange(40), queued - read)
                read += count
                progress.note_read(count)
            case _ if read == queued:
                progress.note_drained()
                assert all(position <= progress.reported_position for position, _ in positions)
            case _:
                pass
        for position, last in positions:
            assert position > progress.reported_position or last <= read
        positions = [each for each in positions if each[0] > progress.reported_position]
