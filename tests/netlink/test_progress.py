"""Check how far a queue has been read, when its messages have no numbers."""

from __future__ import annotations

import random

from conntrack_aio.netlink.progress import Progress

COST = 512
"""The bytes of the receive buffer that a message takes at least."""


def test_finding_the_queue_empty_reaches_every_earlier_position() -> None:
    progress = Progress(COST)
    position = progress.position_after(100 * COST)
    progress.note_read(3)
    assert progress.reported_position < position
    progress.note_drained()
    assert progress.reported_position >= position
    assert progress.position_after(0) == progress.reported_position


def test_a_position_is_reached_after_as_many_messages_as_could_have_waited() -> None:
    progress = Progress(COST)
    progress.note_read(7)
    position = progress.position_after(3 * COST + 1)
    for left in (2, 1, 0):
        progress.note_read(1)
        assert (progress.reported_position >= position) is (left == 0)


def test_positions_before_and_in_a_gap_are_reached_when_it_is_reported() -> None:
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


def test_a_position_in_an_empty_queue_is_reached_when_the_gap_is_reported() -> None:
    progress = Progress(COST)
    progress.open_gap(4 * COST)
    position = progress.position_after(0)
    progress.close_gap()
    assert progress.reported_position >= position


def test_a_position_after_unreported_drops_is_reached_when_the_queue_is_empty() -> None:
    progress = Progress(COST)
    position = progress.position_after(0, lost=True)
    assert progress.reported_position < position
    progress.note_drained()
    assert progress.reported_position >= position


def test_no_position_is_reached_while_older_messages_wait() -> None:
    """Compare with a queue whose messages have numbers.

    All positions are reached when the queue is empty.
    """
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
        positions = [
            (position, last)
            for position, last in positions
            if position > progress.reported_position
        ]
