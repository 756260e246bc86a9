"""The names and sizes of the refiner's networks, for those that run or read them without PyTorch.

``engines.networks.refiner`` describes the networks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOUTH_SIZE, EYE_SIZE = 96, 64
"""Samples along each side of a crop."""
CHANNELS = 12
"""Planes of a crop: the frame (3), the portrait (3), two masks, contours, stretch, two masks of the portrait."""
NETS = ("mouth", "driver", "eyes")
"""The networks by name."""
SIZES = {"mouth": MOUTH_SIZE, "driver": MOUTH_SIZE, "eyes": EYE_SIZE}
"""Samples along each side of a network's crops."""
BATCHES = {"mouth": 1, "driver": 1, "eyes": 2}
"""Crops of a frame that each network takes at once."""
WIDTHS = {"mouth": (16, 48, 96, 160), "driver": (16, 48, 96, 160), "eyes": (16, 32, 80, 112)}
"""Channels of the four levels of each network: multiples of 16, in blocks of which ONNX Runtime computes on a CPU."""
FADE = 8
"""Samples at the border of a crop over which a change fades out."""
SLOPE = 0.1
"""Of the leaky ReLU below zero."""


def fade_of(size: int) -> NDArray[np.float32]:
    """Return the weight of a change by its place, (1, 1, size, size): 0 at the border, 1 from ``FADE`` samples on."""
    place = np.arange(size, dtype=np.float32)
    share = np.clip(np.minimum(place, size - 1 - place) / np.float32(FADE), 0, 1)
    share = share * share * (3 - 2 * share)
    return np.asarray((share[:, None] * share[None, :])[None, None], np.float32)
