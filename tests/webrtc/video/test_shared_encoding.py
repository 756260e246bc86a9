"""Pictures between rings, tracks, sources and sinks."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import SinkLost, SourceEnded, SourceLost, SourceMissing
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.webrtc import endpoints as ends_module
from realtime.webrtc.endpoints import LinkSink, LinkSource, to_rgb
from realtime.webrtc.ipc.frame_ring import Picture, RingReader, RingWriter, create_ring
from realtime.webrtc.process.ice import addresses_for
from realtime.webrtc.settings import ServerSettings
from realtime.webrtc.video import codecs, shared_encoding
from realtime.webrtc.video.decoded_frames import MAX_PIXELS, PictureTimes, planes_of
from realtime.webrtc.video.decoder import Decoder
from realtime.webrtc.video.jitter_buffer import Encoded
from realtime.webrtc.video.shared_encoding import MOST_KEYS, MOST_WAITING, Stream, StreamTrack, Timeline, step_of
from tests.support.waiting import soon
from tools.support.webrtc_client import numbered, read_number

SIZE = (64, 48)
MS = 1_000_000


class OverError(Exception):
    """Stands for aiortc's MediaStreamError."""


def pair(capacity: int = 64 * 48 * 2) -> tuple[RingWriter, RingReader]:
    made = create_ring(capacity)
    return RingWriter(os.dup(made.memory), made.wake_write), RingReader(made.memory, made.wake_read)


def write(writer: RingWriter, number: int, at_ns: int, size: tuple[int, int] = SIZE) -> None:
    assert writer.write((numbered(size, number),), size, at_ns, at_ns)


class Watching:
    """A stream with a writer, and viewers that decode what they get."""

    def __init__(self, codec: str = "H264") -> None:
        self.writer, reader = pair()
        self.stream = Stream("main")
        self.stream.attach(reader)
        self.rates = {"wide": 1_000_000}
        self._codec = codec

    def viewer(self, rate: str = "wide") -> tuple[StreamTrack, Decoder]:
        name = "libx264" if self._codec == "H264" else "libvpx"
        track = StreamTrack(self.stream, lambda: name, lambda: self.rates[rate], OverError)
        return track, Decoder(self._codec)

    def send(self, number: int, at_ms: int | None = None) -> None:
        # the clock is the real one: what is encoded counts from the stream's beginning
        at_ns = self.stream.origin_ns + (at_ms if at_ms is not None else 33 * number) * MS
        write(self.writer, number, at_ns)

    def close(self) -> None:
        for encoding in list(self.stream.encodings.values()):
            for track in list(encoding.tracks):
                track.stop()
        self.stream.detach()
        self.writer.close()


async def seen(viewer: tuple[StreamTrack, Decoder]) -> tuple[int, int, bool]:
    """The next picture a viewer gets: its number, pts, and whether it was a key frame."""
    track, decoder = viewer
    async with asyncio.timeout(10):
        compressed = await track.recv()
    (frame,) = decoder.decode(Encoded(compressed.data, compressed.pts))
    grey: Any = frame.to_ndarray(format="gray")
    return read_number(grey), compressed.pts, compressed.key


async def until_seen(viewer: tuple[StreamTrack, Decoder], number: int) -> bool:
    """Whether the picture with this number, or one on the way to it, is a key frame; some come twice, as keys."""
    key = False
    while True:
        seen_number, _, is_key = await seen(viewer)
        key = key or is_key
        if seen_number == number:
            return key
        assert seen_number < number


def watch(check: Callable[[Watching], Awaitable[None]], codec: str = "H264") -> None:
    async def run() -> None:
        watching = Watching(codec)
        try:
            await check(watching)
        finally:
            watching.close()
            await asyncio.sleep(0)

    asyncio.run(run())


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_a_viewer_gets_the_newest_picture_and_its_time(codec: str) -> None:
    async def check(watching: Watching) -> None:
        watching.send(1, 1000)
        watching.send(2, 1033)
        viewer = watching.viewer()
        assert await seen(viewer) == (2, 1033 * 90, True)
        watching.send(3, 1066)
        assert await seen(viewer) == (3, 1066 * 90, False)
        for number in range(4, 9):
            watching.send(number, 1000 + 33 * number)
        assert await seen(viewer) == (8, 1264 * 90, False)
        assert (viewer[0].frames, viewer[0].dropped) == (3, 4)

    watch(check, codec)


@pytest.fixture
def keys_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key frames come as soon as they are asked for."""
    monkeypatch.setattr(shared_encoding, "KEY_GAP_S", 0.0)


def test_viewers_at_one_rate_share_an_encoder_and_each_begins_with_a_key_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_encoding, "KEY_GAP_S", 3600.0)

    async def check(watching: Watching) -> None:
        first, second = watching.viewer(), watching.viewer()
        watching.send(1)
        assert await seen(first) == (1, 33 * 90, True)
        waiting = asyncio.ensure_future(seen(second))
        await asyncio.sleep(0)
        watching.send(2)
        assert await seen(first) == (2, 66 * 90, False)
        monkeypatch.setattr(shared_encoding, "KEY_GAP_S", 0.0)
        watching.send(3)
        assert await until_seen(first, 3)
        assert (await waiting)[::2] == (3, True)
        assert len(watching.stream.encodings) == 1

    watch(check)


def test_key_frames_of_a_shared_encoder_keep_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_encoding, "KEY_GAP_S", 3600.0)

    async def check(watching: Watching) -> None:
        viewer = watching.viewer()
        watching.send(1)
        assert (await seen(viewer))[2]
        for number in range(2, 5):
            viewer[0].ask_key()
            watching.send(number)
            assert not await until_seen(viewer, number)

    watch(check)


def test_whoever_joins_late_gets_the_last_picture_though_none_follows() -> None:
    async def check(watching: Watching) -> None:
        first, late = watching.viewer(), watching.viewer()
        watching.send(1)
        _, before, _ = await seen(first)
        number, after, key = await seen(late)
        assert (number, key) == (1, True)
        assert after > before

    watch(check)


def test_a_viewer_of_a_slow_network_gets_an_encoder_at_its_rate_and_the_others_keep_theirs() -> None:
    async def check(watching: Watching) -> None:
        watching.rates["narrow"] = 1_000_000
        wide, narrow = watching.viewer(), watching.viewer("narrow")
        watching.send(1)
        await seen(wide)
        await seen(narrow)
        watching.rates["narrow"] = 200_000
        watching.send(2)
        keys = []
        for number in range(3, 6):
            watching.send(number)
            keys.append(await until_seen(narrow, number))
        assert any(keys)
        assert sorted(bitrate for _, bitrate, _ in watching.stream.encodings) == [200_000, 1_000_000]

    watch(check)


@pytest.mark.usefixtures("keys_at_once")
def test_a_key_frame_comes_when_something_was_lost() -> None:
    async def check(watching: Watching) -> None:
        viewer = watching.viewer()
        watching.send(1)
        await seen(viewer)
        watching.send(2)
        assert not await until_seen(viewer, 2)
        viewer[0].ask_key()
        assert (await seen(viewer))[::2] == (2, True)

    watch(check)


def test_whoever_keeps_asking_for_key_frames_is_alone_with_them() -> None:
    async def check(watching: Watching) -> None:
        calm, greedy = watching.viewer(), watching.viewer()
        watching.send(1)
        await seen(calm)
        await seen(greedy)
        for _ in range(MOST_KEYS):
            greedy[0].ask_key()
        for number in range(2, 5):
            watching.send(number)
            await until_seen(calm, number)
        assert len(watching.stream.encodings) == 2
        assert greedy[0].encoding is not calm[0].encoding

    watch(check)


def test_a_sender_that_hangs_is_not_waited_for_and_begins_anew() -> None:
    async def check(watching: Watching) -> None:
        quick, hangs = watching.viewer(), watching.viewer()
        watching.send(1)
        await seen(quick)
        await seen(hangs)
        for number in range(2, 2 * MOST_WAITING):
            watching.send(number)
            await until_seen(quick, number)
        assert hangs[0].dropped >= MOST_WAITING
        number, _, key = await seen((hangs[0], Decoder("H264")))
        assert key
        assert number > MOST_WAITING

    watch(check)


def test_a_viewer_that_leaves_is_woken_and_forgotten() -> None:
    async def check(watching: Watching) -> None:
        track, _ = watching.viewer()
        waiting = asyncio.ensure_future(track.recv())
        await asyncio.sleep(0)
        assert watching.stream.encodings
        track.stop()
        track.stop()
        with pytest.raises(OverError):
            await waiting
        assert not watching.stream.encodings

    watch(check)


def test_a_stream_whose_sender_is_gone_is_not_live_and_a_new_one_takes_over() -> None:
    async def check(watching: Watching) -> None:
        viewer = watching.viewer()
        watching.send(7, 100)
        assert watching.stream.live
        await seen(viewer)
        watching.writer.close()
        await soon(lambda: not watching.stream.live)
        watching.writer, reader = pair()
        watching.stream.attach(reader)
        watching.send(9, 200)
        assert (await seen(viewer))[0] == 9

    watch(check)


def test_an_encoder_that_fails_ends_its_viewers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise RuntimeError("no more")

    async def check(watching: Watching) -> None:
        monkeypatch.setattr(codecs.Encoder, "compress", fail)
        track, _ = watching.viewer()
        watching.send(1)
        with pytest.raises(OverError):
            await track.recv()
        assert track.readyState == "ended"

    watch(check)
    assert "libx264 failed" in caplog.text


@pytest.mark.parametrize("bitrate", [1000, 250_000, 2_500_000, 6_000_000])
def test_there_are_few_rates_to_encode_at(bitrate: int) -> None:
    step = step_of(bitrate)
    assert bitrate / 1.26 < step <= bitrate * 1.001
    assert step_of(step + 1) == step


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
