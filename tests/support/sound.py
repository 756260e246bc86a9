"""Sound for tests: packets of Opus with claps, and the claps in a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np

from realtime.core.sound import SAMPLE_RATE, SoundPacket
from tools.support.claps import CLAP_NS, PERIOD_NS, ClapFinder

NS = 1_000_000_000
LOOKAHEAD_NS = 6_500_000
"""By how much libopus delays the sound."""


def opus_claps(start_ns: int, seconds: float) -> list[SoundPacket]:
    """Return packets of 20 ms with a click at each multiple of ``PERIOD_NS``, from ``start_ns`` on."""
    encoder: Any = av.CodecContext.create("libopus", "w")
    encoder.format, encoder.layout, encoder.sample_rate = "s16", "mono", SAMPLE_RATE
    encoder.options = {"application": "voip"}
    packets = []
    for index in range(round(50 * seconds)):
        first_ns = start_ns + index * NS // 50
        since = (first_ns + np.arange(960) * NS // SAMPLE_RATE) % PERIOD_NS
        level = np.where(since < CLAP_NS, np.cos(since * (2 * np.pi * 1000 / NS)), 0.0)
        frame = av.AudioFrame.from_ndarray((level * 20_000).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate = SAMPLE_RATE
        packets += [SoundPacket(bytes(each), first_ns - LOOKAHEAD_NS) for each in encoder.encode(frame)]
    return packets


def claps_in(path: Path) -> list[float]:
    """Return when the clicks in a recording begin, in seconds."""
    finder, found = ClapFinder(), []
    with av.open(str(path)) as container:
        (track,) = container.streams.audio
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
        for decoded in container.decode(track):
            for frame in resampler.resample(decoded):
                found += finder.find(frame.to_ndarray()[0], (frame.pts or 0) / SAMPLE_RATE, SAMPLE_RATE)
    return found
