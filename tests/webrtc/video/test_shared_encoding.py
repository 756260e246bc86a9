"""Streams, shared encoders, and the tracks of viewers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.webrtc.video import codecs, shared_encoding
from realtime.webrtc.video.decoder import Decoder
from realtime.webrtc.video.jitter_buffer import ReceivedFrame
from realtime.webrtc.video.shared_encoding import (
    MAX_KEY_REQUESTS,
    MAX_QUEUED,
    CaptureClock,
    Stream,
    StreamTrack,
    bitrate_step,
)
from tests.support.rings import ring_pair, write_number
from tests.support.waiting import soon
from tools.support.webrtc_client import read_number

MS = 1_000_000


class EndedError(Exception):
    """Stands for aiortc's MediaStreamError."""


class WatchedStream:
    """A stream with a writer, and viewers that decode what they get."""

    def __init__(self, codec: str = "H264") -> None:
        self.writer, reader = ring_pair()
        self.stream = Stream("main")
        self.stream.attach(reader)
        self.rates = {"wide": 1_000_000}
        self._codec = codec

    def viewer(self, rate: str = "wide") -> tuple[StreamTrack, Decoder]:
        name = "libx264" if self._codec == "H264" else "libvpx"
        track = StreamTrack(self.stream, lambda: name, lambda: self.rates[rate], EndedError)
        return track, Decoder(self._codec)

    def send(self, number: int, at_ms: int | None = None) -> None:
        # the clock is the real one: what is encoded counts from the stream's beginning
        at_ns = self.stream.origin_ns + (at_ms if at_ms is not None else 33 * number) * MS
        write_number(self.writer, number, at_ns)

    def close(self) -> None:
        for encoding in list(self.stream.encodings.values()):
            for track in list(encoding.tracks):
                track.stop()
        self.stream.detach()
        self.writer.close()


async def seen(viewer: tuple[StreamTrack, Decoder]) -> tuple[int, int, bool]:
    """Return the next frame that a viewer gets: its number, pts, and whether it is a key frame."""
    track, decoder = viewer
    async with asyncio.timeout(10):
        compressed = await track.recv()
    (frame,) = decoder.decode(ReceivedFrame(compressed.data, compressed.pts))
    grey: Any = frame.to_ndarray(format="gray")
    return read_number(grey), compressed.pts, compressed.key


async def until_seen(viewer: tuple[StreamTrack, Decoder], number: int) -> bool:
    """Return whether the frame with this number, or one before it, is a key frame. Some frames are sent twice."""
    key = False
    while True:
        seen_number, _, is_key = await seen(viewer)
        key = key or is_key
        if seen_number == number:
            return key
        assert seen_number < number


def watch(check: Callable[[WatchedStream], Awaitable[None]], codec: str = "H264") -> None:
    async def run() -> None:
        watched = WatchedStream(codec)
        try:
            await check(watched)
        finally:
            watched.close()
            await asyncio.sleep(0)

    asyncio.run(run())


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_a_viewer_gets_the_newest_frame_and_its_time(codec: str) -> None:
    async def check(watched: WatchedStream) -> None:
        watched.send(1, 1000)
        watched.send(2, 1033)
        viewer = watched.viewer()
        assert await seen(viewer) == (2, 1033 * 90, True)
        watched.send(3, 1066)
        assert await seen(viewer) == (3, 1066 * 90, False)
        for number in range(4, 9):
            watched.send(number, 1000 + 33 * number)
        assert await seen(viewer) == (8, 1264 * 90, False)
        assert (viewer[0].frames, viewer[0].dropped) == (3, 4)

    watch(check, codec)


@pytest.fixture
def keys_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encode key frames as soon as they are requested."""
    monkeypatch.setattr(shared_encoding, "KEY_INTERVAL_S", 0.0)


def test_viewers_at_the_same_rate_share_an_encoder_and_start_with_a_key_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_encoding, "KEY_INTERVAL_S", 3600.0)

    async def check(watched: WatchedStream) -> None:
        first, second = watched.viewer(), watched.viewer()
        watched.send(1)
        assert await seen(first) == (1, 33 * 90, True)
        waiting = asyncio.ensure_future(seen(second))
        await asyncio.sleep(0)
        watched.send(2)
        assert await seen(first) == (2, 66 * 90, False)
        monkeypatch.setattr(shared_encoding, "KEY_INTERVAL_S", 0.0)
        watched.send(3)
        assert await until_seen(first, 3)
        assert (await waiting)[::2] == (3, True)
        assert len(watched.stream.encodings) == 1

    watch(check)


def test_key_frames_of_a_shared_encoder_have_a_least_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_encoding, "KEY_INTERVAL_S", 3600.0)

    async def check(watched: WatchedStream) -> None:
        viewer = watched.viewer()
        watched.send(1)
        assert (await seen(viewer))[2]
        for number in range(2, 5):
            viewer[0].request_key_frame()
            watched.send(number)
            assert not await until_seen(viewer, number)

    watch(check)


def test_a_late_viewer_gets_the_last_frame_although_no_new_one_follows() -> None:
    async def check(watched: WatchedStream) -> None:
        first, late = watched.viewer(), watched.viewer()
        watched.send(1)
        _, before, _ = await seen(first)
        number, after, key = await seen(late)
        assert (number, key) == (1, True)
        assert after > before

    watch(check)


def test_a_viewer_on_a_slow_network_gets_an_encoder_at_its_rate() -> None:
    async def check(watched: WatchedStream) -> None:
        watched.rates["narrow"] = 1_000_000
        wide, narrow = watched.viewer(), watched.viewer("narrow")
        watched.send(1)
        await seen(wide)
        await seen(narrow)
        watched.rates["narrow"] = 200_000
        watched.send(2)
        keys = []
        for number in range(3, 6):
            watched.send(number)
            keys.append(await until_seen(narrow, number))
        assert any(keys)
        assert sorted(bitrate for _, bitrate, _ in watched.stream.encodings) == [200_000, 1_000_000]

    watch(check)


@pytest.mark.usefixtures("keys_at_once")
def test_a_key_frame_is_encoded_on_request() -> None:
    async def check(watched: WatchedStream) -> None:
        viewer = watched.viewer()
        watched.send(1)
        await seen(viewer)
        watched.send(2)
        assert not await until_seen(viewer, 2)
        viewer[0].request_key_frame()
        assert (await seen(viewer))[::2] == (2, True)

    watch(check)


def test_a_viewer_that_keeps_requesting_key_frames_gets_an_encoder_of_its_own() -> None:
    async def check(watched: WatchedStream) -> None:
        other, greedy = watched.viewer(), watched.viewer()
        watched.send(1)
        await seen(other)
        await seen(greedy)
        for _ in range(MAX_KEY_REQUESTS):
            greedy[0].request_key_frame()
        for number in range(2, 5):
            watched.send(number)
            await until_seen(other, number)
        assert len(watched.stream.encodings) == 2
        assert greedy[0].encoding is not other[0].encoding

    watch(check)


def test_a_sender_that_hangs_delays_no_other_and_restarts_with_a_key_frame() -> None:
    async def check(watched: WatchedStream) -> None:
        quick, hangs = watched.viewer(), watched.viewer()
        watched.send(1)
        await seen(quick)
        await seen(hangs)
        for number in range(2, 2 * MAX_QUEUED):
            watched.send(number)
            await until_seen(quick, number)
        assert hangs[0].dropped >= MAX_QUEUED
        number, _, key = await seen((hangs[0], Decoder("H264")))
        assert key
        assert number > MAX_QUEUED

    watch(check)


def test_a_viewer_that_leaves_is_woken_and_removed() -> None:
    async def check(watched: WatchedStream) -> None:
        track, _ = watched.viewer()
        waiting = asyncio.ensure_future(track.recv())
        await asyncio.sleep(0)
        assert watched.stream.encodings
        track.stop()
        track.stop()
        with pytest.raises(EndedError):
            await waiting
        assert not watched.stream.encodings

    watch(check)


def test_a_stream_without_a_writer_is_not_live_until_a_new_one_attaches() -> None:
    async def check(watched: WatchedStream) -> None:
        viewer = watched.viewer()
        watched.send(7, 100)
        assert watched.stream.live
        await seen(viewer)
        watched.writer.close()
        await soon(lambda: not watched.stream.live)
        watched.writer, reader = ring_pair()
        watched.stream.attach(reader)
        watched.send(9, 200)
        assert (await seen(viewer))[0] == 9

    watch(check)


def test_an_encoder_that_fails_ends_its_viewers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise RuntimeError("no more")

    async def check(watched: WatchedStream) -> None:
        monkeypatch.setattr(codecs.Encoder, "compress", fail)
        track, _ = watched.viewer()
        watched.send(1)
        with pytest.raises(EndedError):
            await track.recv()
        assert track.readyState == "ended"

    watch(check)
    assert "libx264 failed" in caplog.text


@pytest.mark.parametrize("bitrate", [1000, 250_000, 2_500_000, 6_000_000])
def test_bit_rates_are_rounded_down_to_steps(bitrate: int) -> None:
    step = bitrate_step(bitrate)
    assert bitrate / 1.26 < step <= bitrate * 1.001
    assert bitrate_step(step + 1) == step


@given(st.lists(st.tuples(st.integers(0, 10**10), st.integers(0, 10**8)), min_size=1, max_size=50))
def test_capture_times_always_increase(steps: list[tuple[int, int]]) -> None:
    clock, sent, times = CaptureClock(), 10**10, []
    for captured, passed in steps:
        sent += passed
        times.append(clock.next_ns(captured, sent))
    assert all(later - earlier >= MS for earlier, later in pairwise(times))


def test_frames_keep_their_capture_times() -> None:
    clock = CaptureClock()
    captured = [1_000 * MS, 1_033 * MS, 1_070 * MS]
    sent = [1_040 * MS, 1_060 * MS, 1_120 * MS]
    assert [clock.next_ns(*each) for each in zip(captured, sent, strict=True)] == captured
    # the face is lost: frames without a new capture, 33 ms apart
    held = [clock.next_ns(1_070 * MS, 1_153 * MS), clock.next_ns(1_070 * MS, 1_186 * MS)]
    assert held == [1_103 * MS, 1_136 * MS]
    assert clock.next_ns(1_170 * MS, 1_220 * MS) == 1_170 * MS
