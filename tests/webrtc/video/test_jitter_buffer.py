"""The jitter buffer: a frame is returned with its last packet although others are late, lost or repeated."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.webrtc.sound.packets import SoundBuffer
from realtime.webrtc.video.jitter_buffer import GIVE_UP_S, MarkerJitterBuffer, ReceivedFrame, install, uninstall

PERIOD = 3000


@dataclass
class Packet:
    sequence_number: int
    timestamp: int
    marker: int
    _data: bytes
    frame: int = field(default=0, compare=False)


def packets(sizes: list[int], *, seq: int = 0, timestamp: int = 0, marks: bool = True) -> list[Packet]:
    """Return the packets of frames with these sizes, 30 a second. Their data names frame and part."""
    made = []
    for frame, size in enumerate(sizes):
        for part in range(size):
            last = marks and part == size - 1
            data = f"[{frame}.{part}]".encode()
            made.append(Packet(seq & 0xFFFF, (timestamp + frame * PERIOD) & 0xFFFFFFFF, int(last), data, frame))
            seq += 1
    return made


def data_of(frame: int, size: int) -> bytes:
    return b"".join(f"[{frame}.{part}]".encode() for part in range(size))


def feed(buffer: MarkerJitterBuffer, stream: list[Packet]) -> tuple[list[bytes], int]:
    """Return the data of all returned frames, in order, and how often a key frame was requested."""
    out, asked = [], 0
    for packet in stream:
        ask, frame = buffer.add(packet)
        asked += ask
        if frame is not None:
            out += [frame.data, *(each.data for each in frame.following)]
    return out, asked


def test_a_frame_is_returned_with_its_last_packet() -> None:
    buffer = MarkerJitterBuffer(512)
    for packet in packets([3, 1, 5]):
        ask, frame = buffer.add(packet)
        assert not ask
        assert (frame is not None) == bool(packet.marker)
        if frame is not None:
            assert frame.timestamp == packet.timestamp
            assert frame.data == data_of(packet.frame, [3, 1, 5][packet.frame])


def test_a_frame_carries_when_it_arrived() -> None:
    buffer = MarkerJitterBuffer(512, clock=lambda: 77)
    _, frame = buffer.add(packets([1])[0])
    assert frame is not None
    assert frame.arrived_ns == 77


SIZES = st.lists(st.integers(1, 8), min_size=1, max_size=30)
STARTS = st.sampled_from([0, 1, 65_535, 65_530, 30_000])
TIMES = st.sampled_from([0, 0xFFFFFFFF, 0xFFFFFFFF - 4 * PERIOD])


@given(SIZES, STARTS, TIMES, st.randoms(use_true_random=False), st.integers(0, 12))
def test_reordered_and_doubled_packets_change_nothing(
    sizes: list[int], seq: int, timestamp: int, rng: random.Random, reach: int
) -> None:
    stream = packets(sizes, seq=seq, timestamp=timestamp)
    first, rest = stream[0], stream[1:] + rng.sample(stream, len(stream) // 3)
    # each packet is late by up to ``reach`` places, and some come twice
    order = sorted(range(len(rest)), key=lambda at: (rest[at].sequence_number - seq) % 65_536 + rng.uniform(0, reach))
    out, _ = feed(MarkerJitterBuffer(512), [first, *(rest[at] for at in order)])
    assert out == [data_of(frame, size) for frame, size in enumerate(sizes)]


@given(SIZES, STARTS, st.randoms(use_true_random=False))
def test_each_frame_is_returned_as_soon_as_nothing_before_its_end_is_missing(
    sizes: list[int], seq: int, rng: random.Random
) -> None:
    stream = packets(sizes, seq=seq)
    order = sorted(range(1, len(stream)), key=lambda at: at + rng.uniform(0, 6))
    ends = [at for at, packet in enumerate(stream) if packet.marker]
    buffer, here, returned = MarkerJitterBuffer(512), {0}, 0
    _, frame = buffer.add(stream[0])
    returned += frame is not None
    for at in order:
        here.add(at)
        _, frame = buffer.add(stream[at])
        returned += 0 if frame is None else 1 + len(frame.following)
        assert returned == sum(all(each in here for each in range(end + 1)) for end in ends)


@given(st.lists(st.integers(1, 8), min_size=20, max_size=60), STARTS, st.randoms(use_true_random=False))
def test_lost_packets_drop_whole_frames(sizes: list[int], seq: int, rng: random.Random) -> None:
    stream = packets(sizes, seq=seq)
    kept = [packet for packet in stream if packet is stream[0] or rng.random() > 0.05]
    out, asked = feed(MarkerJitterBuffer(512), kept)
    whole = [data_of(frame, size) for frame, size in enumerate(sizes)]
    positions = [whole.index(data) for data in out]
    assert positions == sorted(set(positions))
    lost = len(kept) < len(stream)
    assert lost or (len(out) == len(sizes) and not asked)


def test_a_gap_is_given_up_in_time_and_a_key_frame_requested() -> None:
    sizes = [2] * 40
    stream = packets(sizes)
    del stream[6]
    buffer = MarkerJitterBuffer(512)
    out, asked = feed(buffer, stream)
    assert asked == 1
    assert out[:3] == [data_of(frame, 2) for frame in range(3)]
    assert out[3:] == [data_of(frame, 2) for frame in range(4, 40)]
    waited = next(at for at, packet in enumerate(stream) if packet.timestamp > 3 * PERIOD + 90_000 * GIVE_UP_S)
    out, asked = feed(MarkerJitterBuffer(512), stream[: waited - 2])
    assert (len(out), asked) == (3, 0)


def test_only_the_frame_after_a_loss_is_marked_broken() -> None:
    stream = packets([2] * 40)
    del stream[6]
    buffer = MarkerJitterBuffer(512)
    broken = []
    for packet in stream:
        _, frame = buffer.add(packet)
        if frame is not None:
            broken += [each.data for each in (frame, *frame.following) if each.broken]
    assert broken == [data_of(4, 2)]


def test_a_retransmitted_packet_completes_all_frames_that_waited_for_it() -> None:
    stream = packets([1] * 6)
    late = stream.pop(2)
    buffer = MarkerJitterBuffer(512)
    out, _ = feed(buffer, stream)
    assert len(out) == 2
    ask, frame = buffer.add(late)
    assert frame is not None
    assert not ask
    assert frame.data == data_of(2, 1)
    assert [(each.data, each.timestamp) for each in frame.following] == [
        (data_of(frame, 1), (frame - 2) * PERIOD) for frame in (3, 4, 5)
    ]


def test_without_markers_frames_are_returned_with_the_next_one() -> None:
    sizes = [3, 1, 2, 4]
    out, asked = feed(MarkerJitterBuffer(512), packets(sizes, marks=False))
    assert out == [data_of(frame, size) for frame, size in enumerate(sizes[:-1])]
    assert not asked


def test_wrong_markers_are_trusted_once() -> None:
    """A sender marks every slice: the first frame breaks, the others are whole."""
    stream = packets([3, 3, 3, 3])
    for packet in stream:
        packet.marker = 1
    buffer = MarkerJitterBuffer(512)
    out, _ = feed(buffer, stream)
    assert not buffer.trusts_markers
    assert out[-2:] == [data_of(1, 3), data_of(2, 3)]


@given(st.lists(st.integers(0, 3), min_size=5, max_size=20))
def test_padding_after_a_frame_is_no_frame(pads: list[int]) -> None:
    """Chromium probes with empty packets under the timestamp of the frame before."""
    stream: list[Packet] = []
    seq = 0
    for frame, pad in enumerate(pads):
        stream.append(Packet(seq, frame * PERIOD, 1, data_of(frame, 1), frame))
        stream += [Packet(seq + 1 + extra, frame * PERIOD, 0, b"", frame) for extra in range(pad)]
        seq += 1 + pad
    buffer = MarkerJitterBuffer(512)
    out, asked = feed(buffer, stream)
    assert out == [data_of(frame, 1) for frame in range(len(pads))]
    assert not asked
    assert buffer.trusts_markers


def test_a_new_numbering_is_followed() -> None:
    buffer = MarkerJitterBuffer(512)
    feed(buffer, packets([2] * 5, seq=20_000))
    out, asked = feed(buffer, packets([2] * 5, seq=100, timestamp=900_000))
    assert len(out) == 5
    assert asked == 1


def test_late_packets_of_returned_frames_are_ignored() -> None:
    buffer = MarkerJitterBuffer(512)
    stream = packets([2] * 5)
    feed(buffer, stream)
    assert feed(buffer, stream) == ([], 0)


def test_more_packets_than_its_capacity_drop_whole_frames() -> None:
    stream = packets([4] * 10)
    del stream[0:1]
    buffer = MarkerJitterBuffer(16)
    buffer.add(Packet(65_535, 0, 0, b"lost"))
    out, asked = feed(buffer, stream)
    assert asked
    assert out[-1] == data_of(9, 4)
    assert all(data == data_of(int(data[1:2]), 4) for data in out)


@given(st.lists(st.tuples(st.integers(0, 65_535), st.integers(0, 2**32 - 1), st.booleans(), st.binary(max_size=3))))
def test_no_packets_break_it(stream: list[tuple[int, int, bool, bytes]]) -> None:
    buffer = MarkerJitterBuffer(64)
    for seq, timestamp, marker, data in stream:
        _, frame = buffer.add(Packet(seq, timestamp, int(marker), data))
        assert frame is None or (isinstance(frame, ReceivedFrame) and frame.data)


def test_it_refuses_other_media_and_capacities() -> None:
    for arguments in ((500, 0, True), (512, 4, True), (512, 0, False)):
        with pytest.raises(ValueError, match="expected video"):
            MarkerJitterBuffer(*arguments)


def test_it_is_installed_for_video_and_uninstalled() -> None:
    from aiortc import jitterbuffer, rtcrtpreceiver

    install()
    try:
        make = vars(rtcrtpreceiver)["JitterBuffer"]
        assert isinstance(make(capacity=512, is_video=True), MarkerJitterBuffer)
        assert isinstance(make(capacity=16, prefetch=4), SoundBuffer)
    finally:
        uninstall()
    assert vars(rtcrtpreceiver)["JitterBuffer"] is jitterbuffer.JitterBuffer
