"""Encoders and decoders: no delay, and a bit rate that follows the network."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from aiortc.codecs import depayload, get_capabilities

from engines.errors import UsageError
from realtime.webrtc.settings import ServerSettings
from realtime.webrtc.video.codecs import BitRates, Codecs, Encoder, RateControl, encoder_works
from realtime.webrtc.video.decoder import LATE_S, REPEAT_REQUEST_S, TIME_BASE, Decoder
from realtime.webrtc.video.jitter_buffer import ReceivedFrame
from tools.support.webrtc_client import numbered, read_number

SIZE = (320, 240)
RATES = BitRates(100_000, 1_000_000, 4_000_000)
NAMES = {"libx264": "H264", "libvpx": "VP8"}
BOTH = pytest.mark.parametrize("name", NAMES)


def picture(number: int, size: tuple[int, int] = SIZE) -> Any:
    from av import VideoFrame

    frame = VideoFrame.from_ndarray(numbered(size, number, busy=True), "yuv420p")
    frame.pts, frame.time_base = 1000 + number * 3001, TIME_BASE
    return frame


def number_in(frame: Any) -> int:
    return read_number(frame.to_ndarray(format="gray"))


def capability(name: str) -> Any:
    return next(each for each in get_capabilities("video").codecs if each.name == NAMES[name])


def send(encoder: Encoder, frame: Any, *, key: bool = False) -> ReceivedFrame:
    """Return the frame as it is received."""
    payloads, timestamp = encoder.encode(frame, key)
    assert all(len(payload) <= 1300 for payload in payloads)
    return ReceivedFrame(b"".join(depayload(capability(encoder.name), payload) for payload in payloads), timestamp)


@BOTH
def test_every_frame_is_returned_at_once_with_its_own_time(name: str) -> None:
    encoder, decoder = Encoder(name, RATES), Decoder(NAMES[name])
    for number in range(30):
        encoded = send(encoder, picture(number))
        (frame,) = decoder.decode(encoded)
        assert (frame.width, frame.height) == SIZE
        assert frame.pts == encoded.timestamp == 1000 + number * 3001
        assert number_in(frame) == number


@BOTH
def test_a_frame_carries_when_it_arrived(name: str) -> None:
    encoder, decoder = Encoder(name, RATES), Decoder(NAMES[name])
    for number in range(3):
        encoded = send(encoder, picture(number))
        encoded.arrived_ns = now = time.monotonic_ns()
        (frame,) = decoder.decode(encoded)
        assert frame.opaque == (now,)


@BOTH
def test_a_key_frame_is_encoded_on_request(name: str) -> None:
    encoder = Encoder(name, RATES)
    for number in range(5):
        send(encoder, picture(number))
    decoder = Decoder(NAMES[name])
    (frame,) = decoder.decode(send(encoder, picture(5), key=True))
    assert number_in(frame) == 5


@BOTH
def test_the_size_may_change(name: str) -> None:
    encoder, decoder = Encoder(name, RATES), Decoder(NAMES[name])
    for number, size in enumerate((SIZE, (640, 480), (160, 120))):
        (frame,) = decoder.decode(send(encoder, picture(number, size)))
        assert (frame.width, frame.height) == size


@BOTH
def test_a_lower_rate_makes_smaller_frames(name: str) -> None:
    encoder = Encoder(name, RATES)
    before = sum(len(send(encoder, picture(number)).data) for number in range(20, 80))
    encoder.rate.sent = 2e6
    encoder.target_bitrate = 150_000
    assert encoder.target_bitrate == 150_000
    for number in range(60):
        send(encoder, picture(number))
    after = sum(len(send(encoder, picture(number)).data) for number in range(60, 120))
    assert after < before / 2


def test_the_rate_follows_estimates_in_steps_and_within_limits() -> None:
    now = 0.0
    rate = RateControl(RATES, clock=lambda: now)
    rate.sent = 1e6
    rate.follow(950_000)
    assert rate.bitrate == 1_000_000
    rate.follow(700_000)
    assert rate.bitrate == 700_000
    rate.follow(10)
    assert rate.bitrate == RATES.lowest
    rate.follow(900_000)
    assert rate.bitrate == RATES.lowest, "not up again so soon"
    now = 3.0
    rate.follow(900_000)
    assert rate.bitrate == 900_000
    now = 6.0
    rate.follow(10**9)
    assert rate.bitrate == RATES.highest


def test_a_still_scene_does_not_lower_the_rate() -> None:
    """A receiver does not estimate more than what arrives."""
    now = 0.0
    rate = RateControl(RATES, clock=lambda: now)
    for _ in range(90):
        now += 1 / 30
        rate.count([bytes(400)])
    assert rate.sent == pytest.approx(96_000, rel=0.1)
    rate.follow(100_000)
    assert rate.bitrate == RATES.first
    rate.follow(60_000)
    assert rate.bitrate == RATES.lowest


@BOTH
def test_of_frames_that_arrive_together_the_newest_is_returned(name: str) -> None:
    encoder, decoder = Encoder(name, RATES), Decoder(NAMES[name])
    first, *later = [send(encoder, picture(number)) for number in range(4)]
    for each in later:
        each.timestamp -= first.timestamp
    first.timestamp = 0
    first.following = tuple(later)
    (frame,) = decoder.decode(first)
    assert number_in(frame) == 3
    assert frame.pts == 3 * 3001


@BOTH
def test_frames_that_waited_too_long_are_skipped_up_to_the_next_key_frame(name: str) -> None:
    """The queue of aiortc in front of the decoder is unbounded."""
    import av

    now = 100 * 10**9
    encoder, decoder = Encoder(name, RATES), Decoder(NAMES[name], clock=lambda: now)

    def arriving(number: int, ago_s: float, *, key: bool = False) -> ReceivedFrame:
        encoded = send(encoder, picture(number), key=key)
        encoded.arrived_ns = now - round(ago_s * 1e9)
        return encoded

    assert len(decoder.decode(arriving(0, 0))) == 1
    with pytest.raises(av.FFmpegError):
        # which makes aiortc request a key frame
        decoder.decode(arriving(1, 2 * LATE_S))
    assert decoder.decode(arriving(2, 2 * LATE_S, key=True)) == []
    assert decoder.decode(arriving(3, 0)) == []
    now += round(1.1 * REPEAT_REQUEST_S * 1e9)
    with pytest.raises(av.FFmpegError):
        decoder.decode(arriving(4, 0))
    assert decoder.decode(arriving(5, 0)) == []
    (frame,) = decoder.decode(arriving(6, 0, key=True))
    assert number_in(frame) == 6
    assert len(decoder.decode(arriving(7, 0))) == 1


def test_a_sender_without_key_frames_is_shown_again_after_a_while() -> None:
    import av

    now = 100 * 10**9
    encoder, decoder = Encoder("libx264", RATES), Decoder("H264", clock=lambda: now)
    encoded = [send(encoder, picture(number)) for number in range(40)]
    decoder.decode(encoded[0])
    encoded[2].broken = True
    shown = []
    for each in encoded[2:]:
        each.arrived_ns = now
        try:
            shown.append(bool(decoder.decode(each)))
        except av.FFmpegError:
            shown.append(False)
        now += 200_000_000
    assert shown == [False] * 21 + [True] * (len(shown) - 21)


@BOTH
def test_after_a_loss_frames_are_skipped_up_to_the_next_key_frame(name: str) -> None:
    encoder, decoder = Encoder(name, RATES), Decoder(NAMES[name])
    encoded = [send(encoder, picture(number), key=number == 4) for number in range(6)]
    encoded[2].broken = True
    shown = [bool(decoder.decode(each)) for each in (encoded[0], *encoded[2:])]
    assert shown == [True, False, False, True, True]
    again = send(encoder, picture(6), key=True)
    again.broken = True
    assert decoder.decode(again), "a key frame needs nothing before it"


@pytest.mark.parametrize("name", ["H264", "VP8"])
def test_broken_data_raises_the_error_that_aiortc_handles(name: str) -> None:
    import av

    decoder = Decoder(name)
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(20):
        try:
            decoder.decode(ReceivedFrame(rng.bytes(200), 0))
        except av.FFmpegError:
            refused += 1
    assert refused > 0


def test_auto_selects_an_encoder_that_works() -> None:
    name = Codecs(ServerSettings()).h264_encoder()
    assert name in ("h264_nvenc", "libx264")
    assert encoder_works(name)


def test_a_requested_encoder_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.webrtc.video.codecs.encoder_works", lambda _: False)
    with pytest.raises(UsageError) as raised:
        Codecs(ServerSettings(h264_encoder="h264_nvenc")).h264_encoder()
    assert raised.value.code == "h264-encoder-unavailable"
    assert raised.value.cure


def test_auto_falls_back_to_x264(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.webrtc.video.codecs.encoder_works", lambda name: name == "libx264")
    codecs = Codecs(ServerSettings())
    assert codecs.encoder(capability("libx264")).name == "libx264"


def test_a_publisher_may_send_at_the_first_rate_until_the_network_proves_slow() -> None:
    codecs = Codecs(ServerSettings(min_bitrate=200_000, start_bitrate=2_000_000, max_bitrate=3_000_000))
    estimator = codecs.estimator()
    estimates = []
    for at in range(600):
        # 30 small packets a second
        now = 1000 + at * 1000 // 30
        estimate = estimator.add(
            arrival_time_ms=now, abs_send_time=(now << 18) // 1000 & 0xFFFFFF, payload_size=400, ssrc=1
        )
        if estimate is not None:
            estimates.append(estimate[0])
    assert estimates
    assert min(estimates) >= 2_000_000
    estimator.rate_control.near_max = True
    estimator.rate_control.current_bitrate = 300_000
    estimate = None
    for _ in range(1000):
        now += 33
        estimate = estimate or estimator.add(
            arrival_time_ms=now, abs_send_time=(now << 18) // 1000 & 0xFFFFFF, payload_size=400, ssrc=1
        )
    assert estimate is not None
    assert 200_000 <= estimate[0] < 1_000_000


def test_more_profiles_of_h264_are_accepted_after_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    from aiortc import rtcrtpreceiver, rtcrtpsender
    from aiortc.codecs import CODECS

    monkeypatch.setitem(CODECS, "video", list(CODECS["video"]))
    for module, name in (
        (rtcrtpsender, "get_encoder"),
        (rtcrtpreceiver, "get_decoder"),
        (rtcrtpreceiver, "RemoteBitrateEstimator"),
    ):
        monkeypatch.setattr(module, name, vars(module)[name])
    codecs = Codecs(ServerSettings())
    codecs.install()
    codecs.install()
    profiles = [codec.parameters.get("profile-level-id") for codec in CODECS["video"] if codec.name == "H264"]
    assert profiles == ["42001f", "42e01f", "4d001f", "64001f", "640c1f"]
    types = [codec.payloadType for codec in CODECS["video"]]
    assert len(set(types)) == len(types)
    assert vars(rtcrtpsender)["get_encoder"](capability("libx264")).name == codecs.h264_encoder()
    assert isinstance(vars(rtcrtpreceiver)["get_decoder"](capability("libvpx")), Decoder)
