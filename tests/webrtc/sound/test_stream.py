"""The sound of a stream: it waits for its pictures."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiortc.mediastreams import MediaStreamError

from realtime.core.sound import SoundPacket
from realtime.webrtc.sound import stream
from realtime.webrtc.sound.stream import MAX_LATE_NS, MAX_WAITING, SoundTrack, StreamSound

MS = 1_000_000


def test_a_packet_is_sent_when_the_picture_of_its_moment_is() -> None:
    async def check() -> None:
        sound = StreamSound()
        track = SoundTrack(sound, MediaStreamError)
        now = time.monotonic_ns()
        sound.picture_sent(now - 80 * MS, now)
        for index in range(3):
            sound.push(SoundPacket(bytes([index]), now + index * 20 * MS, 960 * index))
        for index in range(3):
            encoded = await asyncio.wait_for(track.recv(), 20)
            assert time.monotonic_ns() >= now + (80 + index * 20) * MS - MS
            assert (bytes(encoded), encoded.time_ns) == (bytes([index]), now + index * 20 * MS)
            assert track.sent_time_ns == encoded.time_ns
        sound.close()

    asyncio.run(check())


def test_a_packet_with_a_time_far_ahead_is_not_held_back_for_longer_than_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "MAX_LATE_NS", 50 * MS)

    async def check() -> None:
        sound = StreamSound()
        track = SoundTrack(sound, MediaStreamError)
        sound.push(SoundPacket(b"-", time.monotonic_ns() + 3600 * 10**9, 960))
        assert bytes(await asyncio.wait_for(track.recv(), 20)) == b"-"
        sound.close()

    asyncio.run(check())


def test_the_delay_follows_the_pictures_and_has_a_limit() -> None:
    sound = StreamSound()
    sound.picture_sent(0, 5 * MS)
    assert sound.late_ns == 0, "a slate has no moment"
    sound.picture_sent(100 * MS, 150 * MS)
    assert sound.late_ns == 50 * MS
    for _ in range(200):
        sound.picture_sent(100 * MS, 180 * MS)
    assert sound.late_ns == pytest.approx(80 * MS, rel=0.01)
    for _ in range(500):
        sound.picture_sent(100 * MS, 100 * MS + 9 * MAX_LATE_NS)
    assert sound.late_ns <= MAX_LATE_NS


def test_what_waits_is_bounded_and_tracks_end() -> None:
    async def check() -> None:
        sound = StreamSound()
        sound.push(SoundPacket(b"-", 0))  # without a track it goes nowhere
        track = SoundTrack(sound, MediaStreamError)
        ahead = time.monotonic_ns() + 3600 * 10**9
        for index in range(3 * MAX_WAITING):
            sound.push(SoundPacket(b"-", ahead, index))
        assert len(sound._waiting) == MAX_WAITING
        track.stop()
        with pytest.raises(MediaStreamError):
            await track.recv()
        sound.close()

    asyncio.run(check())
