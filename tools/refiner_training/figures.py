"""How near a picture is to the real one within a region: L1, PSNR, SSIM and sharpness."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import Floats, Image
from tools.support.similarity import ssim_map

Bools = NDArray[np.bool_]

FEWEST = 12
"""Pixels that a region must have to be measured."""


@dataclass(slots=True)
class Figures:
    """Sums over the pairs of one region, case and method."""

    n: int = 0
    _l1: float = 0.0
    _square: float = 0.0
    _ssim: float = 0.0
    _energy: float = field(default=0.0)
    _real_energy: float = field(default=0.0)

    def add(self, seen: Seen, real: Seen, region: Bools) -> None:
        """Add a picture and the real one."""
        away = seen.values[region] - real.values[region]
        self.n += 1
        self._l1 += float(np.abs(away).mean())
        self._square += float((away * away).mean())
        self._ssim += float(ssim_map(seen.grey, real.grey)[region].mean())
        self._energy += float(seen.energy[region].mean())
        self._real_energy += float(real.energy[region].mean())

    def to_dict(self) -> dict[str, float | int | None]:
        """Return n, l1 (0 to 255), psnr (dB), ssim, and sharpness over the real frame's; None without pairs."""
        if not self.n:
            return {"n": 0, "l1": None, "psnr": None, "ssim": None, "sharpness": None}
        psnr = 10 * math.log10(255**2 / max(self._square / self.n, 1e-6))
        sharpness = math.sqrt(self._energy / max(self._real_energy, 1e-9))
        return {
            "n": self.n,
            "l1": round(self._l1 / self.n, 3),
            "psnr": round(psnr, 3),
            "ssim": round(self._ssim / self.n, 4),
            "sharpness": round(sharpness, 4),
        }


class Seen:
    """A picture with what is measured of it, computed once."""

    def __init__(self, image: Image) -> None:
        self.values: Floats = image.astype(np.float32)
        self.grey: Floats = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)
        """(H, W), 0 to 255."""
        laplacian = cv2.Laplacian(self.grey, cv2.CV_32F, ksize=1)
        self.energy: Floats = np.asarray(laplacian * laplacian, np.float32)
        """(H, W): the square of the Laplacian."""
