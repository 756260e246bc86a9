"""The inside of the portrait's mouth: the driver's, or a painted one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.face.head import Pose
from engines.face.topology import INNER_LOWER_LIP, INNER_UPPER_LIP, MOUTH_CORNERS
from engines.mesh import mouth_raster
from engines.mesh.driver_mouth import DriverMouth
from engines.mesh.expression import Expression
from engines.mesh.features import MeshFeatures
from engines.mesh.lens import Lens
from engines.mesh.lips import LipLayer
from engines.types import Image, Motion, Points

Floats = NDArray[np.float32]


class Mouth:
    """Draws what parted lips show."""

    def __init__(self) -> None:
        self.kind = ""
        """One of ``engines.generator.MOUTHS``."""
        self._features: MeshFeatures | None = None
        self._colours = _colours(np.ones(3, np.float32))
        self._tint: Floats | None = None
        self._driver = DriverMouth()
        self._lips: LipLayer | None = None

    def set_portrait(self, features: MeshFeatures) -> None:
        """Draw the mouth of another portrait from now on."""
        self._features = features
        self._lips = LipLayer(features.lips)
        self._colours = _colours(features.skin)
        self._tint = None

    def draw(
        self, out: Image, points: Points, pose: Pose, target: Expression, motion: Motion, driving: Image | None
    ) -> None:
        """Draw the lips and what is between them into ``out``, (H, W, 3), a face without lips.

        ``points``: the landmarks of ``target`` in ``out``, (478 or more, 3) pixels.
        """
        features = self._features
        if features is None or self._lips is None:
            return
        self._lips.draw(out, features.box, points, target.shape, pose)
        lips = target.lips
        opacity = min(max((lips - 0.01) / 0.03, 0.0), 1.0)
        if features.own_lips > 0.06:
            # a portrait that shows its teeth keeps them until it opens wider
            opacity *= min(max((lips / features.own_lips - 1.15) / 0.5, 0.0), 1.0)
        if opacity <= 0 or self.kind != "driver":
            self._driver.reset()
        if opacity <= 0:
            return
        lens = Lens.of(points, MOUTH_CORNERS, INNER_UPPER_LIP, INNER_LOWER_LIP)
        feather = max(1.2, 0.004 * features.image.shape[0])
        shown = self._driver.update(motion, driving) if self.kind == "driver" else 0.0
        if shown < 1:
            mouth_raster.paint_mouth(
                out, features.box, lens.ends, lens.upper, lens.lower, *self._colours, opacity, feather
            )
        if shown > 0:
            mouth = self._driver
            tint = np.clip(features.skin / np.maximum(mouth.skin, 8), 0.4, 1.8).astype(np.float32)
            self._tint = tint if self._tint is None else self._tint + np.float32(0.1) * (tint - self._tint)
            mouth_raster.draw_driver_mouth(
                out, features.box, lens.ends, lens.upper, lens.lower, mouth.image, mouth.lens.ends,
                mouth.lens.upper, mouth.lens.lower, self._tint, opacity * shown, feather,
            )  # fmt: skip


def _colours(skin: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the colours of teeth, gum and cavity for a skin colour, (3,) float32 each."""
    light = float(skin.mean()) / 190
    tone = skin / max(float(skin.max()), 1.0)
    teeth = np.asarray(np.array([232, 226, 214], np.float32) * min(light, 1.05) * (0.6 + 0.4 * tone), np.float32)
    gum = np.asarray(np.array([168, 84, 84], np.float32) * light, np.float32)
    cavity = np.asarray(np.array([52, 20, 22], np.float32) * light, np.float32)
    return teeth, gum, cavity
