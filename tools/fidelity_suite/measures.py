"""The measures of fidelity: how the channels of two faces agree, how still the background is, how landmarks jitter."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import Floats, Image
from tools.fidelity_suite.reference_tracker import ANGLES, CHANNELS, Track, track_clip

SCORED = ("jawOpen", "blink", "smile", "yaw", "pitch", "roll")
"""The channels whose mean r is the figure of merit."""

STILL_STD = {name: 0.5 if name in ANGLES else 0.03 for name in CHANNELS}
"""A channel of the driver with a smaller standard deviation (degrees, or blendshape score) counts as still."""

HEAD_SPREAD = 2.0
"""The head with hair, ears and neck: the hull of the landmarks, scaled about its centre by this factor."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of driver and output, compared over the frames in which both have a face."""

    name: str
    r: float
    """Pearson correlation; NaN where either does not move at all."""
    gain: float
    """Standard deviation of the output over that of the driver; NaN where the driver does not move."""
    driver_std: float
    """Blendshape score, or degrees."""
    still: bool
    """True where the driver hardly moves; such a channel is left out of means."""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """The comparison of a driver and an output."""

    channels: tuple[Channel, ...]
    frames: int
    """Frames compared: the shorter of the two videos."""
    driver_frames: int
    output_frames: int
    driver_found: int
    """Frames among those compared in which the driver has a face."""
    output_found: int
    driver: Track = field(repr=False)
    output: Track = field(repr=False)

    def __getitem__(self, name: str) -> Channel:
        return next(channel for channel in self.channels if channel.name == name)

    @property
    def mean_r(self) -> float:
        """Mean r over the scored channels that are not still; NaN when all of them are."""
        moving = [self[name].r for name in SCORED if not self[name].still]
        return float(np.mean(np.nan_to_num(moving))) if moving else float("nan")

    def summary(self) -> dict[str, Any]:
        """Return everything but the tracks for JSON (NaN becomes None)."""
        names = ("frames", "driver_frames", "output_frames", "driver_found", "output_found")
        counts = {name: getattr(self, name) for name in names}
        channels = {channel.name: _without_nan(asdict(channel)) for channel in self.channels}
        return _without_nan({**counts, "mean_r": self.mean_r}) | {"channels": channels}


def finite(value: float) -> float | None:
    """Return the number, or None for NaN and infinity, which JSON cannot express."""
    return value if np.isfinite(value) else None


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    return {key: finite(value) if isinstance(value, float) else value for key, value in values.items()}


def measure(driver: Path, output: Path, model: Path) -> Fidelity:
    """Compare two videos; frame i of ``output`` was made from frame i of ``driver``.

    Raises SourceMissing for a video that cannot be read, TrackerError for a bundle that cannot be loaded.
    """
    return compare(track_clip(driver, model), track_clip(output, model))


def compare(driver: Track, output: Track) -> Fidelity:
    """Compare two tracks over the frames they share."""
    frames = min(len(driver), len(output))
    driver_track, output_track = driver.first(frames), output.first(frames)
    both = driver_track.found & output_track.found
    channels = tuple(
        _channel(name, driver_track.channel(name)[both], output_track.channel(name)[both]) for name in CHANNELS
    )
    return Fidelity(
        channels=channels,
        frames=frames,
        driver_frames=len(driver),
        output_frames=len(output),
        driver_found=int(driver_track.found.sum()),
        output_found=int(output_track.found.sum()),
        driver=driver_track,
        output=output_track,
    )


def _channel(name: str, driver: Floats, output: Floats) -> Channel:
    x, y = driver.astype(np.float64), output.astype(np.float64)
    x_std, y_std = (float(values.std()) if len(values) else 0.0 for values in (x, y))
    r = gain = float("nan")
    if x_std > 0:
        gain = y_std / x_std
        if y_std > 0:
            r = float(np.mean((x - x.mean()) * (y - y.mean())) / (x_std * y_std))
    return Channel(name, r, gain, x_std, still=x_std < STILL_STD[name])


class Background:
    """The error of an output against its rest picture outside the head, pooled over the frames."""

    def __init__(self, rest: Image, landmarks: Floats) -> None:
        """``rest`` is the picture before anything moves and ``landmarks`` (N, 2) its face in pixels."""
        self._rest = rest
        self._outside = ~self._head(landmarks)
        self._error = 0.0
        self._values = 0
        self.worst = float("inf")
        """PSNR of the worst frame, dB."""

    def add(self, image: Image, landmarks: Floats) -> None:
        """Add one frame and the landmarks (N, 2) of its face. A frame without a face (NaN) is ignored."""
        if np.isnan(landmarks).any():
            return
        outside = self._outside & ~self._head(landmarks)
        difference = cv2.absdiff(image, self._rest)[outside].astype(np.float64)
        if not difference.size:
            return
        error = float(np.square(difference).sum())
        self._error += error
        self._values += difference.size
        self.worst = min(self.worst, _psnr(error, difference.size))

    @property
    def psnr(self) -> float:
        """PSNR over all frames in dB; infinite when nothing changed, NaN when no background was visible."""
        return _psnr(self._error, self._values) if self._values else float("nan")

    def _head(self, landmarks: Floats) -> NDArray[np.bool_]:
        """Return the mask (H, W) of the head."""
        hull: Floats = np.asarray(cv2.convexHull(landmarks.astype(np.float32)), np.float32)[:, 0]
        centre = (hull.min(0) + hull.max(0)) / 2
        spread: NDArray[np.int32] = np.round(centre + (hull - centre) * HEAD_SPREAD).astype(np.int32)
        mask = np.zeros(self._rest.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, spread, (1,))
        return mask.astype(np.bool_)


def _psnr(error: float, count: int) -> float:
    return float("inf") if error == 0 else float(10 * np.log10(255.0**2 * count / error))


def jitter(track: Track) -> float:
    """Return the mean standard deviation of the landmarks of a face that should be still, in pixels.

    A landmark's deviation takes both axes together. Frames without a face are left out; NaN when no frame has one.
    """
    landmarks = track.landmarks[track.found].astype(np.float64)
    return float(np.sqrt(landmarks.var(axis=0).sum(axis=1)).mean()) if len(landmarks) else float("nan")
