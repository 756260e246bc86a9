"""Claps and flashes: a click in the sound at the moment of a white picture, to measure how far the two are apart."""

from __future__ import annotations

import asyncio
import fractions
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realtime.webrtc.sound.reports import Report, read_reports, write_reports
from tools.support.webrtc_client import SIZE, Client

_NS = 1_000_000_000
PERIOD_NS = _NS // 2
"""The time from one clap to the next."""
LEVELS = (220, 190, 160, 130)
"""The brightness of the pictures of a flash."""
_DARK = 40
CLAP_NS = 8_000_000
"""How long the click is."""
_FPS = 30
_VIDEO_CLOCK = 90_000
_QUIET = 0.1
"""Sound above this share of full scale is the click."""


class FlashTrack:
    """A video track that is dark, and white at each multiple of ``PERIOD_NS`` (monotonic).

    The pictures after the white one are darker and darker, see ``flash_of``: where the white one is dropped, as the
    newest wins, they tell when it was.
    """

    kind = "video"

    def __init__(self, size: tuple[int, int] = SIZE) -> None:
        self.id = "flash"
        self.sent_time_ns = 0
        """When what was returned last was recorded."""
        self._period_ns = round(_NS / _FPS)
        self._dark = _picture(size, _DARK)
        self._flash = [_picture(size, level) for level in LEVELS]
        self._next_ns = 0

    async def recv(self) -> Any:
        """Wait until the next picture is due and return it as a VideoFrame."""
        from av import VideoFrame

        # in step with the flashes, so that each begins with a picture
        now = time.monotonic_ns()
        self._next_ns = max(self._next_ns + self._period_ns, now - now % PERIOD_NS)
        since_flash = self._next_ns % PERIOD_NS
        if since_flash < self._period_ns:
            self._next_ns -= since_flash
        await asyncio.sleep(max(0, self._next_ns - time.monotonic_ns()) / _NS)
        since = round(self._next_ns % PERIOD_NS / self._period_ns)
        frame = VideoFrame.from_ndarray(self._flash[since] if since < len(LEVELS) else self._dark, "yuv420p")
        frame.pts = self._next_ns * _VIDEO_CLOCK // _NS
        frame.time_base = fractions.Fraction(1, _VIDEO_CLOCK)
        self.sent_time_ns = self._next_ns
        return frame

    def stop(self) -> None:
        """Do nothing: the track holds no resources."""


class ClapTrack:
    """A track of sound: silence, and a click of 1 kHz at each multiple of ``PERIOD_NS`` (monotonic).

    ``rate`` is that of its samples in Hz. As from a microphone, a packet is there when its last sample is.
    """

    kind = "audio"

    def __init__(self, rate: int = 48_000) -> None:
        self.id = "clap"
        self.sent_time_ns = 0
        """When the first sample of what was returned last was recorded."""
        self._rate = rate
        self._samples = rate // 50
        self._start_ns = 0
        self._count = 0

    async def recv(self) -> Any:
        """Wait until the next 20 ms are over and return them as an AudioFrame."""
        from av import AudioFrame

        self._start_ns = self._start_ns or time.monotonic_ns()
        first_ns = self._start_ns + self._count * _NS // self._rate
        await asyncio.sleep(max(0, first_ns + 20_000_000 - time.monotonic_ns()) / _NS)
        at_ns = first_ns + np.arange(self._samples) * _NS // self._rate
        since = at_ns % PERIOD_NS
        level = np.where(since < CLAP_NS, np.cos(since * (2 * np.pi * 1000 / _NS)), 0.0)
        frame = AudioFrame.from_ndarray((level * 20_000).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate = self._rate
        frame.pts, frame.time_base = self._count, fractions.Fraction(1, self._rate)
        self._count += self._samples
        self.sent_time_ns = first_ns
        return frame

    def stop(self) -> None:
        """Do nothing: the track holds no resources."""


class ClapPublisher(Client):
    """A publisher of claps and flashes whose reports name the moment of recording, as a browser's do."""

    async def clap(self, rate: int = 48_000, codec: str = "opus") -> None:
        """Publish with POST /whip. Raises aiohttp.ClientResponseError."""
        from aiortc import RTCRtpSender

        sound = self.connection.addTransceiver("audio", "sendonly")
        known = RTCRtpSender.getCapabilities("audio").codecs
        sound.setCodecPreferences([each for each in known if each.name == codec])
        video = self.connection.addTransceiver("video", "sendonly")
        for transceiver, track in ((sound, ClapTrack(rate)), (video, FlashTrack())):
            sender: Any = transceiver.sender
            sender.replaceTrack(track)
            write_reports(sender, track)
        await self.exchange("/whip")


class ClapViewer(Client):
    """A viewer that notes when it would show each flash and play each click, by the sender's reports."""

    def __init__(self, address: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(address, headers)
        self.flashes_s: list[float] = []
        """When each flash began, on the track's clock."""
        self.claps_s: list[float] = []
        """When each click began, on the track's clock."""
        self.sounds = 0
        """The packets of sound received."""
        self.pictures: Report | None = None
        self.sound: Report | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def see_and_hear(self, path: str) -> None:
        """Watch with POST to ``path``, with sound."""
        sound = self.connection.addTransceiver("audio", "recvonly")
        video = self.connection.addTransceiver("video", "recvonly")
        read_reports(sound.receiver, lambda: 48_000, lambda report: setattr(self, "sound", report))
        read_reports(video.receiver, lambda: _VIDEO_CLOCK, lambda report: setattr(self, "pictures", report))
        await self.exchange(path)
        self._tasks = [
            asyncio.create_task(self._see(video.receiver.track)),
            asyncio.create_task(self._hear(sound.receiver.track)),
        ]

    def offsets_ms(self) -> list[float]:
        """Return how much later each click is played than its flash is shown, as the reports tell."""
        if self.pictures is None or self.sound is None:
            return []
        claps = [at - self.sound.track_s + self.sound.wall_s for at in self.claps_s]
        flashes = [at - self.pictures.track_s + self.pictures.wall_s for at in self.flashes_s]
        return offsets_ms(claps, flashes)

    async def close(self) -> None:
        """Close the connection without a DELETE."""
        for task in self._tasks:
            task.cancel()
        await super().close()

    async def _see(self, track: Any) -> None:
        from aiortc.mediastreams import MediaStreamError

        before: int | None = 0
        try:
            while True:
                frame = await track.recv()
                since = flash_of(frame.to_ndarray(format="gray"))
                if since is not None and (before is None or since <= before):
                    self.flashes_s.append(float(frame.pts * frame.time_base) - since / _FPS)
                before = since
        except MediaStreamError:
            pass

    async def _hear(self, track: Any) -> None:
        from aiortc.mediastreams import MediaStreamError

        finder = ClapFinder()
        try:
            while True:
                frame = await track.recv()
                self.sounds += 1
                samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0] / 32768
                self.claps_s += finder.find(samples, float(frame.pts * frame.time_base), frame.sample_rate)
        except MediaStreamError:
            pass


def flash_of(grey: NDArray[Any]) -> int | None:
    """Return how many pictures before this one (H, W) the flash began; None for a dark one."""
    level = float(grey.mean())
    nearest = int(np.argmin([abs(level - each) for each in LEVELS]))
    return nearest if level > (LEVELS[-1] + _DARK) / 2 else None


class ClapFinder:
    """Finds the beginnings of clicks in sound that comes in parts."""

    def __init__(self) -> None:
        self._until_s = 0.0

    def find(self, samples: NDArray[Any], start_s: float, rate: int) -> list[float]:
        """Return when the clicks in a part begin, in seconds; ``samples`` are mono, from -1 to 1, from ``start_s``."""
        found: list[float] = []
        for at in np.flatnonzero(np.abs(samples) > _QUIET):
            at_s = start_s + at / rate
            if at_s >= self._until_s:
                found.append(at_s)
                self._until_s = at_s + PERIOD_NS / _NS / 2
        return found


def offsets_ms(claps_s: Sequence[float], flashes_s: Sequence[float]) -> list[float]:
    """Return for each flash how much later the nearest click is, in ms; flashes without one are left out."""
    half_s = PERIOD_NS / _NS / 2
    pairs = [(min(claps_s, key=lambda clap, at=flash: abs(clap - at)), flash) for flash in flashes_s if claps_s]  # type: ignore[misc]
    return [1000 * (clap - flash) for clap, flash in pairs if abs(clap - flash) < half_s]


def _picture(size: tuple[int, int], level: int) -> NDArray[np.uint8]:
    pixels = np.full((size[1] * 3 // 2, size[0]), 128, np.uint8)
    pixels[: size[1]] = level
    return pixels
