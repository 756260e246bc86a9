"""Frames through shared memory: the newest wins, none is torn, nothing is left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from realtime.core.background_task import BackgroundTask
from realtime.webrtc.ipc.frame_ring import SLOTS, RingReader, RingWriter, create_ring
from tests.support.waiting import until

ROOT = Path(__file__).parents[3]
CAPACITY = 10_000


def pair(capacity: int = CAPACITY) -> tuple[RingWriter, RingReader]:
    ends = create_ring(capacity)
    return RingWriter(os.dup(ends.memory), ends.wake_write), RingReader(ends.memory, ends.wake_read)


@pytest.fixture
def ring() -> Iterator[tuple[RingWriter, RingReader]]:
    writer, reader = pair()
    yield writer, reader
    writer.close()
    reader.close()


def plane(value: int, rows: int = 4, columns: int = 6) -> NDArray[np.uint8]:
    return np.full((rows, columns), value % 256, np.uint8)


def test_a_frame_arrives_as_it_was_written(ring: tuple[RingWriter, RingReader]) -> None:
    writer, reader = ring
    planes = (np.arange(24, dtype=np.uint8).reshape(4, 6), plane(7, 2, 3), plane(9, 2, 3))
    assert writer.write(planes, (6, 4), 11, 12)
    assert reader.wait(0)
    picture = reader.take()
    assert picture is not None
    assert (picture.width, picture.height, picture.seq, picture.captured_ns, picture.time_ns) == (6, 4, 1, 11, 12)
    assert picture.pixels.tolist() == [*range(24), *[7] * 6, *[9] * 6]


def test_planes_may_be_views_with_padding(ring: tuple[RingWriter, RingReader]) -> None:
    writer, reader = ring
    wide = np.arange(64, dtype=np.uint8).reshape(4, 16)
    writer.write((wide[:, :6],), (6, 4), 0, 0)
    picture = reader.take()
    assert picture is not None
    assert np.array_equal(picture.pixels.reshape(4, 6), wide[:, :6])


def test_a_picture_taken_stays_as_it_is(ring: tuple[RingWriter, RingReader]) -> None:
    writer, reader = ring
    writer.write((plane(1),), (6, 4), 0, 0)
    picture = reader.take()
    for value in range(2, 2 + 2 * SLOTS):
        writer.write((plane(value),), (6, 4), 0, 0)
    assert picture is not None
    assert set(picture.pixels) == {1}


@given(st.lists(st.one_of(st.just("take"), st.integers(1, CAPACITY)), max_size=60))
def test_whatever_the_order_the_newest_wins(steps: list[str | int]) -> None:
    """Against a model: one slot, the newest in it, all others counted."""
    writer, reader = pair()
    written, taken, dropped, size = 0, 0, 0, 0
    for step in steps:
        if isinstance(step, int):
            written, size = written + 1, step
            assert writer.write((plane(written, 1, step),), (step, 1), written, 0)
            continue
        picture = reader.take()
        if written == taken:
            assert picture is None
            continue
        dropped += written - taken - 1
        taken = written
        assert picture is not None
        assert (picture.seq, picture.width) == (written, size)
        assert np.array_equal(picture.pixels, plane(written, 1, size)[0])
    assert reader.dropped == dropped
    writer.close()
    reader.close()


def test_a_frame_that_is_overwritten_while_it_is_copied_is_not_given(ring: tuple[RingWriter, RingReader]) -> None:
    writer, reader = ring
    for value in range(1, 4):
        writer.write((plane(value),), (6, 4), 0, 0)
    # what the writer does first when it comes round to the slot again
    writer._headers[3 % SLOTS][0] = 6
    assert reader.take() is None


def test_too_large_a_frame_is_a_mistake(ring: tuple[RingWriter, RingReader]) -> None:
    writer, _ = ring
    with pytest.raises(ValueError, match="at most"):
        writer.write((plane(1, 1000, 1000),), (1000, 1000), 0, 0)


def test_a_reader_that_comes_late_gets_the_newest() -> None:
    ends = create_ring(CAPACITY)
    writer = RingWriter(os.dup(ends.memory), ends.wake_write)
    for value in range(5):
        writer.write((plane(value),), (6, 4), 0, 0)
    reader = RingReader(ends.memory, ends.wake_read)
    picture = reader.take()
    assert picture is not None
    assert (picture.seq, reader.dropped) == (5, 0)
    writer.close()
    reader.close()


def test_each_end_learns_that_the_other_has_gone() -> None:
    writer, reader = pair()
    writer.write((plane(1),), (6, 4), 0, 0)
    writer.close()
    writer.close()
    assert reader.wait(0)
    assert reader.take() is not None
    assert not reader.wait(5)
    assert reader.ended
    reader.close()
    writer, reader = pair()
    reader.close()
    reader.close()
    assert not writer.write((plane(1),), (6, 4), 0, 0)
    writer.close()


def test_a_writer_never_waits_for_a_reader_that_sleeps(ring: tuple[RingWriter, RingReader]) -> None:
    """More wake-ups than a pipe holds."""
    writer, reader = ring
    for value in range(70_000):
        assert writer.write((plane(value, 1, 1),), (1, 1), 0, 0)
    assert reader.wait(0)
    picture = reader.take()
    assert picture is not None
    assert picture.seq == 70_000
    assert not reader.wait(0)


def test_what_was_taken_already_does_not_end_the_waiting(ring: tuple[RingWriter, RingReader]) -> None:
    """The byte that wakes comes after the frame, and the frame may be gone by then."""
    writer, reader = ring
    writer.write((plane(1),), (6, 4), 0, 0)
    assert reader.take() is not None
    waiting = BackgroundTask("wait", lambda: reader.wait(10))
    waiting.start()
    until(lambda: not select.select([reader], [], [], 0)[0], "what has woken it is not taken out of the pipe")
    writer.write((plane(2),), (6, 4), 0, 0)
    assert waiting.result(), "it has not waited for the next frame"


WRITE = """
    import itertools, sys
    import numpy as np
    from realtime.webrtc.ipc.frame_ring import RingWriter

    writer = RingWriter(int(sys.argv[1]), int(sys.argv[2]))
    largest = np.empty((300, 400), np.uint8)
    for seq in itertools.count(1):
        frame = largest[: 100 + seq % 200]
        frame[:] = seq % 256
        if not writer.write((frame,), (400, len(frame)), seq, 0):
            break
"""
READ = """
    import sys
    from realtime.webrtc.ipc.frame_ring import RingReader

    reader = RingReader(int(sys.argv[1]), int(sys.argv[2]))
    print("ready", flush=True)
    while not reader.ended:
        reader.wait(5)
        reader.take()
"""


def process(code: str, *fds: int) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", textwrap.dedent(code), *map(str, fds)]
    started: subprocess.Popen[bytes] = subprocess.Popen(arguments, cwd=ROOT, pass_fds=fds, stdout=subprocess.PIPE)
    return started


def test_between_processes_no_frame_is_torn_and_a_killed_writer_leaves_nothing() -> None:
    before = set(os.listdir("/dev/shm"))
    ends = create_ring(400 * 300)
    writer = process(WRITE, ends.memory, ends.wake_write)
    reader = RingReader(ends.memory, ends.wake_read)
    os.close(ends.wake_write)
    seqs: list[int] = []
    while len(seqs) < 300:
        assert reader.wait(30), "the writer has ended"
        picture = reader.take()
        if picture is None:
            continue
        assert picture.pixels.size == picture.width * picture.height == 400 * (100 + picture.seq % 200)
        assert (picture.pixels == picture.seq % 256).all()
        assert picture.captured_ns == picture.seq
        seqs.append(picture.seq)
    assert seqs == sorted(set(seqs))
    assert reader.dropped == seqs[-1] - len(seqs)
    writer.send_signal(signal.SIGKILL)
    writer.wait()

    def ended() -> bool:
        reader.wait(0)
        reader.take()
        return reader.ended

    until(ended, "the end of a writer that was killed is not noticed")
    reader.close()
    assert writer.stdout is not None
    writer.stdout.close()
    assert set(os.listdir("/dev/shm")) == before


def test_a_killed_reader_is_noticed_and_leaves_nothing() -> None:
    before = set(os.listdir("/dev/shm"))
    ends = create_ring(CAPACITY)
    reader = process(READ, ends.memory, ends.wake_read)
    writer = RingWriter(ends.memory, ends.wake_write)
    os.close(ends.wake_read)
    assert reader.stdout is not None
    with reader.stdout:
        assert reader.stdout.readline() == b"ready\n"
        assert writer.write((plane(1),), (6, 4), 0, 0)
        reader.send_signal(signal.SIGKILL)
        reader.wait()
    assert not writer.write((plane(2),), (6, 4), 0, 0)
    writer.close()
    assert set(os.listdir("/dev/shm")) == before
