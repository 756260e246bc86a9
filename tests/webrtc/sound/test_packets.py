"""The sound of a publisher as it arrives."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from aiortc.codecs import PCMU_CODEC, get_encoder
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from realtime.webrtc.sound.packets import ArrivedSound, OpusPacket, OpusPassage, SoundBuffer, ToOpus, decoder_for


@dataclass
class Packet:
    sequence_number: int
    timestamp: int = 0
    _data: bytes = b"sound"


def test_packets_are_returned_at_once_and_late_or_empty_ones_dropped() -> None:
    buffer = SoundBuffer(clock=lambda: 7)
    seen = [buffer.add(Packet(seq & 0xFFFF, seq)) for seq in (65534, 65535, 65536, 65534, 65536, 65539)]
    assert [flag for flag, _ in seen] == [False] * 6
    assert [each and each.timestamp for _, each in seen] == [65534, 65535, 65536, None, None, 65539]
    assert buffer.add(Packet(4, _data=b"")) == (False, None)


def test_opus_is_passed_on() -> None:
    decoder = decoder_for(RTCRtpCodecParameters("audio/opus", 48_000, channels=2, payloadType=96))
    assert isinstance(decoder, OpusPassage)
    assert decoder.decode(ArrivedSound(b"data", 5, 9)) == [OpusPacket(b"data", 5, 9)]


def test_8_khz_becomes_opus_at_the_same_times() -> None:
    encoder, decoder = get_encoder(PCMU_CODEC), decoder_for(PCMU_CODEC)
    assert isinstance(decoder, ToOpus)
    packets: list[OpusPacket] = []
    for index in range(50):
        tone = (8000 * np.sin(np.arange(160 * index, 160 * (index + 1)) * (2 * np.pi * 440 / 8000))).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(tone[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, 160 * index, Fraction(1, 8000)
        payloads, timestamp = encoder.encode(frame)
        # a second later the publisher's clock has jumped by an hour
        shift = 8000 * 3600 if index >= 25 else 0
        packets += decoder.decode(ArrivedSound(payloads[0], timestamp + shift, index))
    assert len(packets) >= 48
    assert {after.pts - before.pts for before, after in itertools.pairwise(packets[:21])} == {960}
    assert packets[-1].pts == pytest.approx(48_000 * 3601, abs=4000)
    opus: Any = av.CodecContext.create("libopus", "r")
    opus.format, opus.layout, opus.sample_rate = "s16", "mono", 48_000
    heard = np.concatenate(
        [each.to_ndarray()[0] for packet in packets[:20] for each in opus.decode(av.Packet(packet.data))]
    )
    assert np.abs(heard[4800:]).max() == pytest.approx(8000, rel=0.2)
