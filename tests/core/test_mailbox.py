from __future__ import annotations

import threading
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from realtime.core.mailbox import Mailbox


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    return thread, results


@given(st.lists(st.one_of(st.none(), st.integers()), max_size=60))
def test_newest_wins_and_every_item_is_taken_dropped_or_still_there(steps: list[int | None]) -> None:
    """An integer is put, None takes; a model with one variable says what must come out."""
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


def test_a_waiting_reader_gets_what_is_put() -> None:
    box: Mailbox[str] = Mailbox()
    thread, got = in_thread(box.get)
    box.put("frame")
    thread.join(5)
    assert got == ["frame"]


def test_close_wakes_every_reader() -> None:
    box: Mailbox[str] = Mailbox()
    readers = [in_thread(box.get) for _ in range(3)]
    box.close()
    for thread, got in readers:
        thread.join(5)
        assert got == [None]


def test_close_wakes_a_writer_that_waits_for_room() -> None:
    box: Mailbox[int] = Mailbox()
    assert box.hand(1)
    thread, got = in_thread(lambda: box.hand(2))
    box.close()
    thread.join(5)
    assert got == [False]


def test_what_was_left_before_closing_can_still_be_taken() -> None:
    box: Mailbox[int] = Mailbox()
    box.put(1)
    box.close()
    box.close()
    assert box.get() == 1
    assert box.get() is None
    assert box.closed


def test_a_closed_mailbox_gives_the_item_back() -> None:
    box: Mailbox[int] = Mailbox()
    box.close()
    assert box.put(7) == 7
    assert not box.hand(8)
    assert box.dropped == 0


def test_hand_loses_nothing_and_keeps_the_order() -> None:
    box: Mailbox[int] = Mailbox()
    thread, _ = in_thread(lambda: [box.hand(i) for i in range(1000)])
    assert [box.get(5) for _ in range(1000)] == list(range(1000))
    thread.join(5)
    assert box.dropped == 0


def test_hand_gives_up_when_out_of_time() -> None:
    box: Mailbox[int] = Mailbox()
    box.put(1)
    assert not box.hand(2, timeout=0)
    assert box.get() == 1


def test_two_writers_lose_only_what_is_counted() -> None:
    box: Mailbox[int] = Mailbox()
    writers = [in_thread(lambda: [box.put(i) for i in range(2000)])[0] for _ in range(2)]
    taken = 0
    for writer in writers:
        writer.join(10)
    while box.get(timeout=0) is not None:
        taken += 1
    assert taken + box.dropped == 4000
