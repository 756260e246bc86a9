"""The ring buffer: the newest frame wins, none is torn, nothing is left behind."""

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
    made = create_ring(capacity)
    return RingWriter(os.dup(made.memory), made.wake_write), RingReader(made.memory, made.wake_read)


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
    frame = reader.take()
    assert frame is not None
    assert (frame.width, frame.height, frame.seq, frame.captured_ns, frame.time_ns) == (6, 4, 1, 11, 12)
    assert frame.pixels.tolist() == [*range(24), *[7] * 6, *[9] * 6]


def test_planes_may_be_views_with_padding(ring: tuple[RingWriter, RingReader]) -> None:
    writer, reader = ring
    wide = np.arange(64, dtype=np.uint8).reshape(4, 16)
    writer.write((wide[:, :6],), (6, 4), 0, 0)
    frame = reader.take()
    assert frame is not None
    assert np.array_equal(frame.pixels.reshape(4, 6), wide[:, :6])


def test_a_frame_that_was_taken_does_not_change(ring: tuple[RingWriter, RingReader]) -> None:
    writer, reader = ring
    writer.write((plane(1),), (6, 4), 0, 0)
    frame = reader.take()
    for value in range(2, 2 + 2 * SLOTS):
        writer.write((plane(value),), (6, 4), 0, 0)
    assert frame is not None
    assert set(frame.pixels) == {1}


@given(st.lists(st.one_of(st.just("take"), st.integers(1, CAPACITY)), max_size=60))
def test_the_newest_frame_wins_in_any_order_of_reads_and_writes(steps: list[str | int]) -> None:
    """Against a model: one slot, the newest in it, all others counted."""
    writer, reader = pair()
    written, taken, dropped, size = 0, 0, 0, 0
    for step in steps:
        if isinstance(step, int):
            written, size = written + 1, step
            assert writer.write((plane(written, 1, step),), (step, 1), written, 0)
            continue
        frame = reader.take()
        if written == taken:
            assert frame is None
            continue
        dropped += written - taken - 1
        taken = written
        assert frame is not None
        assert (frame.seq, frame.width) == (written, size)
        assert np.array_equal(frame.pixels, plane(written, 1, size)[0])
    assert reader.dropped == dropped
    writer.close()
    reader.close()


def test_a_frame_that_is_overwritten_while_it_is_copied_is_not_returned(ring: tuple[RingWriter, RingReader]) -> None:
    writer, reader = ring
    for value in range(1, 4):
        writer.write((plane(value),), (6, 4), 0, 0)
    # what the writer does first when it comes round to the slot again
    writer._headers[3 % SLOTS][0] = 6
    assert reader.take() is None


def test_a_frame_that_is_too_large_raises_value_error(ring: tuple[RingWriter, RingReader]) -> None:
    writer, _ = ring
    with pytest.raises(ValueError, match="at most"):
        writer.write((plane(1, 1000, 1000),), (1000, 1000), 0, 0)


def test_a_late_reader_gets_the_newest_frame() -> None:
    made = create_ring(CAPACITY)
    writer = RingWriter(os.dup(made.memory), made.wake_write)
    for value in range(5):
        writer.write((plane(value),), (6, 4), 0, 0)
    reader = RingReader(made.memory, made.wake_read)
    frame = reader.take()
    assert frame is not None
    assert (frame.seq, reader.dropped) == (5, 0)
    writer.close()
    reader.close()


def test_each_end_notices_that_the_other_is_gone() -> None:
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


def test_a_writer_never_waits_for_a_reader(ring: tuple[RingWriter, RingReader]) -> None:
    """It writes more bytes than the pipe holds."""
    writer, reader = ring
    for value in range(70_000):
        assert writer.write((plane(value, 1, 1),), (1, 1), 0, 0)
    assert reader.wait(0)
    frame = reader.take()
    assert frame is not None
    assert frame.seq == 70_000
    assert not reader.wait(0)


def test_waiting_does_not_end_with_a_frame_that_was_taken_already(ring: tuple[RingWriter, RingReader]) -> None:
    """The byte in the pipe follows the frame, which may have been taken by then."""
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


def test_between_processes_no_frame_is_torn_and_a_killed_writer_leaves_nothing_behind() -> None:
    before = set(os.listdir("/dev/shm"))
    made = create_ring(400 * 300)
    writer = process(WRITE, made.memory, made.wake_write)
    reader = RingReader(made.memory, made.wake_read)
    os.close(made.wake_write)
    seqs: list[int] = []
    while len(seqs) < 300:
        assert reader.wait(30), "the writer has ended"
        frame = reader.take()
        if frame is None:
            continue
        assert frame.pixels.size == frame.width * frame.height == 400 * (100 + frame.seq % 200)
        assert (frame.pixels == frame.seq % 256).all()
        assert frame.captured_ns == frame.seq
        seqs.append(frame.seq)
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


def test_a_killed_reader_is_noticed_and_leaves_nothing_behind() -> None:
    before = set(os.listdir("/dev/shm"))
    made = create_ring(CAPACITY)
    reader = process(READ, made.memory, made.wake_read)
    writer = RingWriter(made.memory, made.wake_write)
    os.close(made.wake_read)
    assert reader.stdout is not None
    with reader.stdout:
        assert reader.stdout.readline() == b"ready\n"
        assert writer.write((plane(1),), (6, 4), 0, 0)
        reader.send_signal(signal.SIGKILL)
        reader.wait()
    assert not writer.write((plane(2),), (6, 4), 0, 0)
    writer.close()
    assert set(os.listdir("/dev/shm")) == before
