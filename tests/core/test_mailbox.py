from __future__ import annotations

import threading
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from realtime.core.mailbox import Mailbox


def start(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    return thread, results


@given(st.lists(st.one_of(st.none(), st.integers()), max_size=60))
def test_newest_wins_and_every_item_is_taken_dropped_or_still_there(steps: list[int | None]) -> None:
    """Put each integer, take at each None, and compare with a model of one variable."""
    box: Mailbox[int] = Mailbox()
    slot: int | None = None
    puts = taken = back = 0
    for step in steps:
        if step is None:
            assert box.get(timeout=0) == slot
            taken += slot is not None
            slot = None
        else:
            assert box.put(step) == slot
            back += slot is not None
            slot = step
            puts += 1
    assert box.dropped == back
    assert puts == taken + back + (slot is not None)


def test_a_waiting_reader_gets_the_item_that_is_put() -> None:
    box: Mailbox[str] = Mailbox()
    thread, got = start(box.get)
    box.put("frame")
    thread.join(5)
    assert got == ["frame"]


def test_close_wakes_every_reader() -> None:
    box: Mailbox[str] = Mailbox()
    readers = [start(box.get) for _ in range(3)]
    box.close()
    for thread, got in readers:
        thread.join(5)
        assert got == [None]


def test_close_wakes_a_writer_that_waits_for_a_free_slot() -> None:
    box: Mailbox[int] = Mailbox()
    assert box.put_when_free(1)
    thread, got = start(lambda: box.put_when_free(2))
    box.close()
    thread.join(5)
    assert got == [False]


def test_an_item_put_before_closing_can_still_be_taken() -> None:
    box: Mailbox[int] = Mailbox()
    box.put(1)
    box.close()
    box.close()
    assert box.get() == 1
    assert box.get() is None
    assert box.closed


def test_a_closed_mailbox_returns_the_item() -> None:
    box: Mailbox[int] = Mailbox()
    box.close()
    assert box.put(7) == 7
    assert not box.put_when_free(8)
    assert box.dropped == 0


def test_put_when_free_loses_nothing_and_keeps_the_order() -> None:
    box: Mailbox[int] = Mailbox()
    thread, _ = start(lambda: [box.put_when_free(i) for i in range(1000)])
    assert [box.get(5) for _ in range(1000)] == list(range(1000))
    thread.join(5)
    assert box.dropped == 0


def test_put_when_free_returns_after_the_timeout() -> None:
    box: Mailbox[int] = Mailbox()
    box.put(1)
    assert not box.put_when_free(2, timeout=0)
    assert box.get() == 1


def test_two_writers_lose_only_items_that_are_counted() -> None:
    box: Mailbox[int] = Mailbox()
    writers = [start(lambda: [box.put(i) for i in range(2000)])[0] for _ in range(2)]
    taken = 0
    for writer in writers:
        writer.join(10)
    while box.get(timeout=0) is not None:
        taken += 1
    assert taken + box.dropped == 4000
