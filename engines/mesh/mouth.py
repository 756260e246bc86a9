"""The inside of the portrait's mouth: the driver's, or a painted one."""

from __future__ import annotations

import math

import cv2
import numpy as np

from engines.face.head import Pose
from engines.face.opening import Opening
from engines.face.topology import INNER_LOWER_LIP, INNER_UPPER_LIP, MOUTH_CORNERS
from engines.mesh import mouth_raster
from engines.mesh.driver_mouth import SIZE, DriverMouth
from engines.mesh.expression import Expression
from engines.mesh.features import MeshFeatures
from engines.mesh.lips import LipLayer
from engines.mesh.mouth_model import MouthModel, jaw_share
from engines.types import Image, Motion, Points

BOX = 1.22
"""Half the width of each of two boxes, over the standard deviation of both together."""
RESAMPLED = 0.8
"""The standard deviation of the blur of an image that is drawn at another size, pixels."""


class Mouth:
    """Draws what parted lips show."""

    def __init__(self) -> None:
        self.kind = ""
        """One of ``engines.generator.MOUTHS``."""
        self.seen = ""
        """What the last frame showed, for the refiner: ``neural`` in place of ``driver`` where the driver's mouth is
        covered, whether or not a network makes one up."""
        self._features: MeshFeatures | None = None
        self._model: MouthModel | None = None
        self._grain = np.zeros((1, 1), np.float32)
        self._blur = 0.0
        self._soft: Image = np.zeros((*SIZE, 3), np.uint8)
        self._driver = DriverMouth()
        self._lips: LipLayer | None = None

    def set_portrait(self, features: MeshFeatures) -> None:
        """Draw the mouth of another portrait from now on."""
        self._features = features
        self._lips = LipLayer(features.lips)
        light = features.light
        self._model = MouthModel(features.shape, features.pose.scale, light)
        self._grain = np.ascontiguousarray(light.grain / np.float32(light.white))
        # a mouth that is resampled is blurred already
        self._blur = math.sqrt(max(light.blur**2 - RESAMPLED**2, 0.0))

    def draw(
        self, out: Image, points: Points, pose: Pose, target: Expression, motion: Motion, driving: Image | None
    ) -> None:
        """Draw the lips and what is between them into ``out``, (H, W, 3), a face without lips.

        ``points``: the landmarks of ``target`` in ``out``, (478 or more, 3) pixels.
        """
        features = self._features
        self.seen = self.kind
        if features is None or self._lips is None or self._model is None:
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
        opening = Opening.of(points, MOUTH_CORNERS, INNER_UPPER_LIP, INNER_LOWER_LIP)
        feather = max(1.2, 0.004 * features.image.shape[0])
        shown = self._driver.update(motion, driving) * (1 - motion.made_mouth) if self.kind == "driver" else 0.0
        light = features.light
        if self.kind == "driver" and shown < 0.5:
            self.seen = "neural"
        if shown < 1:
            jaw = jaw_share(motion, lips)
            self._model.draw(out, features.box, opening, target.shape, pose, jaw, light, self._grain, opacity, feather)
        if shown > 0:
            mouth = self._driver
            inside = self._blurred(mouth.inside, opening)
            mouth_raster.fill_opening(
                out, features.box, opening.ends, opening.upper, opening.lower, inside, mouth.edges, mouth.span,
                *mouth.light.gains(light), light.white, light.flesh, light.tint, light.colour, self._grain,
                opacity * shown, feather,
            )  # fmt: skip

    def _blurred(self, inside: Image, opening: Opening) -> Image:
        """Return the driver's mouth as blurred as the portrait is."""
        blur = self._blur
        if blur <= 0:
            return inside
        rows, columns = inside.shape[:2]
        across = blur * columns / max(float(np.hypot(*(opening.ends[2:] - opening.ends[:2]))), 1.0)
        down = blur * rows / max(float((opening.lower - opening.upper).max()), 1.0)
        # two boxes that are as wide as a Gaussian together cost the same at any width
        size = tuple(2 * round(min(part, 10.0) * BOX) + 1 for part in (across, down))
        cv2.blur(inside, size, self._soft, borderType=cv2.BORDER_REPLICATE)
        cv2.blur(self._soft, size, self._soft, borderType=cv2.BORDER_REPLICATE)
        return self._soft
