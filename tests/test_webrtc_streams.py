"""Pictures between rings, tracks, sources and sinks."""

from __future__ import annotations

import asyncio
import os
import threading
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import SinkLost, SourceEnded, SourceLost, SourceMissing
from realtime.frames import Frame, PixelFormat, Stamps
from realtime.webrtc import ends as ends_module
from realtime.webrtc.ends import LinkSink, LinkSource, to_rgb
from realtime.webrtc.gathering import addresses_for
from realtime.webrtc.pictures import MAX_PIXELS, PictureTimes, planes_of
from realtime.webrtc.ring import Picture, RingReader, RingWriter, create_ring
from realtime.webrtc.settings import ServerSettings
from realtime.webrtc.streams import Stream, StreamTrack, Timeline
from tools.webrtc_client import numbered, read_number

SIZE = (64, 48)
MS = 1_000_000


class OverError(Exception):
    """Stands for aiortc's MediaStreamError."""


def pair(capacity: int = 64 * 48 * 2) -> tuple[RingWriter, RingReader]:
    made = create_ring(capacity)
    return RingWriter(os.dup(made.memory), made.wake_write), RingReader(made.memory, made.wake_read)


def write(writer: RingWriter, number: int, at_ns: int, size: tuple[int, int] = SIZE) -> None:
    assert writer.write((numbered(size, number),), size, at_ns, at_ns)


async def numbers(track: StreamTrack, count: int) -> list[tuple[int, int]]:
    """So many pictures: number and pts."""
    got = []
    for _ in range(count):
        frame = await track.recv()
        got.append((read_number(frame.to_ndarray(format="gray")), frame.pts or 0))  # type: ignore[arg-type]
    return got


def test_a_viewer_gets_the_newest_picture_and_its_time() -> None:
    async def check() -> None:
        writer, reader = pair()
        stream = Stream("main")
        stream.attach(reader)
        write(writer, 1, 1000 * MS)
        write(writer, 2, 1033 * MS)
        track = StreamTrack(stream, OverError)
        assert await numbers(track, 1) == [(2, 0)]
        write(writer, 3, 1066 * MS)
        assert await numbers(track, 1) == [(3, 33 * 90)]
        for number in range(4, 9):
            write(writer, number, (1000 + 33 * number) * MS)
        assert await numbers(track, 1) == [(8, (1264 - 1033) * 90)]
        assert track.frames == 3
        assert track.dropped == 4
        stream.detach()
        writer.close()

    asyncio.run(check())


def test_each_viewer_goes_at_its_own_pace() -> None:
    async def check() -> None:
        writer, reader = pair()
        stream = Stream("main")
        stream.attach(reader)
        quick, slow = StreamTrack(stream, OverError), StreamTrack(stream, OverError)
        seen = []
        for number in range(1, 7):
            write(writer, number, number * 33 * MS)
            seen += [at for at, _ in await numbers(quick, 1)]
        assert seen == [1, 2, 3, 4, 5, 6]
        assert [at for at, _ in await numbers(slow, 1)] == [6]
        assert quick.dropped == 0
        stream.detach()
        writer.close()

    asyncio.run(check())


def test_whoever_joins_late_gets_the_last_picture_at_once_though_none_follows() -> None:
    async def check() -> None:
        writer, reader = pair()
        stream = Stream("main")
        stream.attach(reader)
        first = StreamTrack(stream, OverError)
        write(writer, 1, MS)
        await numbers(first, 1)
        late = StreamTrack(stream, OverError)
        assert [at for at, _ in await numbers(late, 1)] == [1]
        stream.detach()
        writer.close()

    asyncio.run(check())


def test_a_viewer_that_leaves_is_woken_and_forgotten() -> None:
    async def check() -> None:
        stream = Stream("main")
        track = StreamTrack(stream, OverError)
        waiting = asyncio.ensure_future(track.recv())
        await asyncio.sleep(0)
        track.stop()
        track.stop()
        with pytest.raises(OverError):
            await waiting
        assert not stream.tracks

    asyncio.run(check())


def test_a_stream_whose_sender_is_gone_is_not_live_and_a_new_one_takes_over() -> None:
    async def check() -> None:
        writer, reader = pair()
        stream = Stream("main")
        stream.attach(reader)
        track = StreamTrack(stream, OverError)
        write(writer, 7, MS)
        assert stream.live
        await numbers(track, 1)
        writer.close()
        while stream.live:
            await asyncio.sleep(0)
        writer, reader = pair()
        stream.attach(reader)
        write(writer, 9, 2 * MS)
        assert [at for at, _ in await numbers(track, 1)] == [9]
        stream.detach()
        writer.close()

    asyncio.run(check())


@given(st.lists(st.tuples(st.integers(0, 10**10), st.integers(0, 10**8)), min_size=1, max_size=50))
def test_time_goes_on_whatever_is_captured(steps: list[tuple[int, int]]) -> None:
    timeline, sent, times = Timeline(), 10**10, []
    for captured, passed in steps:
        sent += passed
        times.append(timeline.place(captured, sent))
    assert all(later - earlier >= MS for earlier, later in pairwise(times))


def test_pictures_keep_the_times_they_were_captured_at() -> None:
    timeline = Timeline()
    captured = [1_000 * MS, 1_033 * MS, 1_070 * MS]
    sent = [1_040 * MS, 1_060 * MS, 1_120 * MS]
    assert [timeline.place(*each) for each in zip(captured, sent, strict=True)] == captured
    # the face is lost: pictures without a new capture, 33 ms apart
    held = [timeline.place(1_070 * MS, 1_153 * MS), timeline.place(1_070 * MS, 1_186 * MS)]
    assert held == [1_103 * MS, 1_136 * MS]
    assert timeline.place(1_170 * MS, 1_220 * MS) == 1_170 * MS


def test_a_publishers_times_do_not_jitter_as_its_packets_do() -> None:
    times, rng = PictureTimes(), np.random.default_rng(0)
    shown = [
        times.shown(number * 3000, 10**9 + number * 33_333_333 + int(rng.exponential(8e6))) for number in range(300)
    ]
    steps = np.diff(shown[30:]) / 1e6
    assert abs(steps - 33.33).max() < 2
    assert (np.diff(shown) > 0).all()


def test_a_publisher_that_starts_its_clock_again_is_followed() -> None:
    times = PictureTimes()
    times.shown(90_000 * 100, 10**9)
    after = times.shown(0, 2 * 10**9)
    assert abs(after - 2 * 10**9) < 1e6


@pytest.mark.parametrize("size", [(320, 240), (321, 241), (16, 16), (2560, 1440), (1080, 1920)])
@pytest.mark.parametrize("kind", ["yuv420p", "yuvj420p", "yuv444p"])
def test_any_decoded_picture_becomes_i420_of_even_size(size: tuple[int, int], kind: str) -> None:
    from av import VideoFrame

    frame = VideoFrame.from_ndarray(np.full((size[1], size[0], 3), 90, np.uint8), "rgb24").reformat(format=kind)
    planes = planes_of(frame)
    assert planes is not None
    (height, width), (rows, columns) = planes[0].shape, planes[1].shape
    assert (rows, columns) == (height / 2, width / 2)
    assert width * height <= MAX_PIXELS
    assert width / height == pytest.approx(size[0] / size[1], rel=0.02)
    assert abs(int(planes[0][height // 2, width // 2]) - 94) < 3


def test_what_is_too_small_is_no_picture() -> None:
    from av import VideoFrame

    assert planes_of(VideoFrame(8, 8, "yuv420p")) is None


def as_picture(pixels: Any, size: tuple[int, int]) -> Picture:
    return Picture(pixels.reshape(-1), size[0], size[1], 1, 0, 0)


def test_a_picture_becomes_rgb_and_keeps_its_shape_when_the_size_changes() -> None:
    grey = numbered(SIZE, 0)
    grey[:] = 128
    assert to_rgb(as_picture(grey, SIZE), SIZE).shape == (48, 64, 3)
    turned = to_rgb(as_picture(grey, SIZE), (48, 64))
    assert turned.shape == (64, 48, 3)
    rows = turned.reshape(64, -1).max(axis=1)
    assert (rows[14:50] > 100).all()
    assert not rows[:14].any()
    assert not rows[50:].any()


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends_module, "READ_S", 0.01)


@pytest.mark.usefixtures("no_patience")
def test_a_source_gives_frames_stalls_and_ends() -> None:
    writer, reader = pair()
    write(writer, 5, 123)
    source = LinkSource(reader, 30.0, 1.0)
    assert (source.size, source.fps, source.live) == (SIZE, 30.0, True)
    frame = source.read()
    assert (frame.seq, frame.stamps.captured, frame.format) == (1, 123, PixelFormat.RGB)
    assert read_number(frame.pixels[:, :, 0]) == 5
    with pytest.raises(SourceLost, match="no picture"):
        source.read()
    write(writer, 6, 456)
    assert source.read().seq == 2
    writer.close()
    with pytest.raises(SourceEnded, match="left"):
        source.read()
    source.close()
    source.close()


@pytest.mark.usefixtures("no_patience")
def test_a_source_that_never_begins_is_missing() -> None:
    writer, reader = pair()
    with pytest.raises(SourceMissing, match="no picture") as raised:
        LinkSource(reader, 30.0, 0.02)
    assert raised.value.cure
    writer.close()
    with pytest.raises(SourceEnded):
        LinkSource(reader, 30.0, 1.0)
    reader.close()


def frame_of(number: int) -> Frame:
    return Frame(numbered(SIZE, number), PixelFormat.I420, number, Stamps(captured=77), 0)


def test_a_sink_never_waits_and_survives_the_other_side() -> None:
    readers: list[RingReader] = []
    detached = threading.Event()

    def attach() -> RingWriter:
        writer, reader = pair()
        readers.append(reader)
        return writer

    sink = LinkSink("x", attach, detached.set)
    sink.send(frame_of(1))
    picture = readers[0].take()
    assert picture is not None
    assert (picture.width, picture.height, picture.captured_ns) == (*SIZE, 77)
    readers[0].close()
    sink.send(frame_of(2))
    sink.attach_again()
    sink.send(frame_of(3))
    picture = readers[1].take()
    assert picture is not None
    sink.error = "gone"
    with pytest.raises(SinkLost, match="gone"):
        sink.send(frame_of(4))
    sink.close()
    sink.close()
    assert detached.is_set()
    readers[1].drain()
    assert readers[1].ended
    readers[1].close()


@pytest.mark.parametrize(
    ("host", "offered"),
    [
        ("127.0.0.1", ["127.0.0.1", "192.0.2.1", "fd00::1"]),
        ("localhost", ["127.0.0.1", "192.0.2.1", "fd00::1"]),
        ("::1", ["::1", "192.0.2.1", "fd00::1"]),
        ("0.0.0.0", ["192.0.2.1", "fd00::1"]),
        ("192.0.2.1", ["192.0.2.1"]),
        ("198.51.100.9", ["192.0.2.1", "fd00::1"]),
        ("example.org", ["192.0.2.1", "fd00::1"]),
    ],
)
def test_addresses_are_offered_as_the_server_is_bound(host: str, offered: list[str]) -> None:
    settings = ServerSettings(host=host, token="t")
    assert addresses_for(settings, ["192.0.2.1", "fd00::1"]) == offered
    assert addresses_for(settings, []) in (["127.0.0.1"], ["::1"])
