"""Estimates the driver's neutral: the driver's face at the expression and the turn that the portrait has.

A face is ``identity shape + displacement(code)``, see ``engines.face.coefficients``. The identity shape is estimated
over all frames seen, each with its expression taken out; the neutral is the identity shape with the portrait's
expression put in. So it is right from the first frame on, whatever the driver's face does in it, and gets better with
every frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engines.face.coefficients import CoefficientModel, canonical_shape, shipped
from engines.face.head import Pose, pose_against
from engines.face.perspective import seen_turn
from engines.face.topology import MIRROR
from engines.types import LANDMARKS, NEUTRAL_EASE_S, FaceState, Floats, Points
from realtime.motion.rest_pose import RestPose, to_sides
from realtime.motion.settings import NeutralMode

CALIBRATION_NS = 500_000_000
"""A calibration takes the mean of the faces seen in this time."""
SETTLE_NS = 1_500_000_000
"""A driver who returns takes this long to sit down. Until then a change of position is not motion of the face."""

ARRIVED = 1e-3
"""A neutral this close to the estimate is kept, head units."""

UNEXPLAINED = np.float32(0.5)
"""The share that counts of what a face's code does not explain: most of it is the tracker's error."""

MEMORY_S = 30.0
"""The identity shape is a mean over frames that count for no more than this time together."""
TURNED = math.radians(20.0)
"""A head turned by this much counts for the identity shape with a share of exp(-1/2): its landmarks are guessed."""
OUTLIER = 0.02
"""Root mean square distance from the identity shape, in head units, at which a frame counts half."""
STRANGER, STRANGER_S = 0.025, 0.4
"""A face this far from the identity shape for this long is a different face: the estimate starts again. Frames of the
same face lie 0.010 apart (median), those of two faces 0.025."""

ALIKE, UNLIKE = 0.013, 0.024
"""How a head's pitch reads depends on the face. Below the first distance, identity shapes of driver and portrait count
as the same face, above the second as different faces."""
SAME, OTHER = 0.0145, 0.018
"""Below the first distance, two identity shapes belong to the same face, and the portrait gives the driver's neutral.
Above the second they belong to different faces. After 15 frames, identity shapes of the same face are 0.008 apart
(median; one of 17 is more than 0.0142 apart), and 2 % of the pairs of different faces are closer than that."""
TURN_STD, UNLIKE_PITCH_STD = np.radians([3.0, 4.0, 2.0]), math.radians(9.0)
"""Standard deviation of the turns of drivers who look straight ahead (cameras stand above or aside), about x, y and z,
and the further deviation of the pitch between two different faces held alike."""
UNLIKE_PITCH = math.radians(-6.0)
"""Drivers read this much lower than portraits, which are mostly taken from a little below."""
GLANCE_STD, GLANCE_S = np.radians([6.0, 8.0, 4.0]), 15.0
"""Standard deviation of glances, and the time after which two glances count as independent."""
ASIDE, ASIDE_END = np.radians([14.0, 12.0, 8.0]), np.radians([26.0, 25.0, 16.0])
"""A portrait turned by less than the first angles looks at the viewer while the driver looks at the camera. Beyond the
second it keeps its own turn. About x, y and z."""
OWN_ASIDE = np.radians([24.0, 22.0, 14.0])
"""The first, where the portrait shows the driver: its turn is known exactly, and the driver's own is turned alike."""
ARRIVAL_SPEED, ARRIVAL_S = 0.12, 1.5
"""How fast the turn at rest may follow a better estimate at first, radians per second, and the time constant with which
this falls to ``RestPose.drift``."""
COVERED, COVERED_FROM = 0.25, 0.25
"""Extra drift that a moving head hides: this share of the head's speed above this threshold (rad/s)."""
SEAT_S = 20.0
"""The position of the head at rest is a mean over this time."""
FLIP = np.array([-1, 1, 1], np.float32)


@dataclass(frozen=True, slots=True)
class PortraitRest:
    """What the driver's neutral is matched to: the expression and the turn of the portrait."""

    displacement: Points
    """(478, 3) float32: what the portrait's expression does to a face, canonical head frame."""
    own: Points | None
    """(478, 3) float32: the portrait's face without expression; None if nothing is known of it."""
    turn: Floats
    """(3,) float32 radians: the angles at which the viewer sees its head."""

    @staticmethod
    def of(face: FaceState, model: CoefficientModel) -> PortraitRest:
        """Return what there is to know of a portrait whose face is ``face``."""
        pixels = face.pixels()
        shape = canonical_shape(pixels)
        code = model.read(shape)
        if not model.is_plausible(code):
            return PortraitRest.unknown()
        displacement = model.displacement(code)
        return PortraitRest(displacement, shape - displacement, seen_turn(pixels, face.size))

    @staticmethod
    def unknown() -> PortraitRest:
        """Return a portrait without expression that looks at the viewer."""
        return PortraitRest(np.zeros((LANDMARKS, 3), np.float32), None, np.zeros(3, np.float32))

    def sameness(self, own: Points) -> float:
        """Return 1 if the portrait shows a driver with the identity shape ``own``, 0 if not, or between."""
        if self.own is None:
            return 0.0
        return min(max((OTHER - _distance(own, self.own)) / (OTHER - SAME), 0.0), 1.0)

    def straight(self, own: Points) -> tuple[Floats, Floats]:
        """Return the turn of a driver who looks straight ahead, and its standard deviation, before one is known.

        ``own`` is the driver's identity shape. All are (3,) float32 radians. With that turn the portrait is as it is.
        """
        same = self.sameness(own)
        aside = ASIDE + np.float32(same) * (OWN_ASIDE - ASIDE)
        share = np.clip((ASIDE_END - np.abs(self.turn)) / (ASIDE_END - aside), 0, 1)
        # how a pitch reads depends on the face: the driver's own reads as in the portrait
        share[0] = max(share[0], same)
        unlike = 0.5
        if self.own is not None:
            away = _distance(own, self.own)
            unlike = (1 - same) * min(max((away - ALIKE) / (UNLIKE - ALIKE), 0.0), 1.0)
        mean = self.turn * share + np.array([unlike * UNLIKE_PITCH, 0, 0])
        std = TURN_STD * (0.5 + 0.5 * unlike)
        std[0] = math.hypot(float(std[0]), unlike * UNLIKE_PITCH_STD)
        return mean.astype(np.float32), std.astype(np.float32)


def _distance(shape: Points, other: Points) -> float:
    """Return the root mean square distance of the points of two shapes, (478, 3) each."""
    return float(np.sqrt(np.mean((shape - other) ** 2)))


@dataclass(frozen=True, slots=True)
class NeutralReading:
    """A face against the neutral in use."""

    neutral: Points
    """(478, 3) float32: the driver's face at the portrait's expression, head frame."""
    own: Points
    """(478, 3) float32: the driver's face without expression, head frame."""
    pose: Pose
    """In shorter sides of the image, from its middle."""
    shape: Points
    """(478, 3) float32: the face now, pose taken out, with half of what its code does not explain."""
    seen: Points
    """(478, 3) float32: the face as the tracker sees it, pose taken out."""
    turn: Floats
    """(3,) float32 radians: the angles at which the camera sees the head."""


@dataclass(slots=True)
class _Calibration:
    """Sums over the frames of a calibration."""

    until_ns: int
    count: int
    shape: Floats
    displacement: Floats
    turn: Floats
    origin: Floats
    log_scale: float

    def add(self, shape: Points, displacement: Points, turn: Floats, pose: Pose) -> None:
        self.count += 1
        weight = np.float32(1 / self.count)
        self.shape = self.shape + weight * (shape - self.shape)
        self.displacement = self.displacement + weight * (displacement - self.displacement)
        self.turn = self.turn + weight * (turn - self.turn)
        self.origin = self.origin + weight * (pose.origin[:2] - self.origin)
        self.log_scale += float(weight) * (math.log(pose.scale) - self.log_scale)


class NeutralEstimator:
    """Estimates the driver's neutral. In the mode ``first`` it is the first face, in ``auto`` the estimate above."""

    def __init__(self, mode: NeutralMode, model: CoefficientModel | None = None) -> None:
        self._mode = mode
        self._model = model or shipped()
        self._portrait = PortraitRest.unknown()
        self._own: Points | None = None
        self._own_s = 0.0  # the time that the identity shape is a mean over
        self._fixed = False  # chosen by the user: not improved any more
        self._fixed_displacement: Points | None = None  # by the expression of the face that the user has chosen
        self._same = 0.0  # 1 if the portrait shows the driver
        self._neutral: Points | None = None
        self._usual_turn = np.zeros(3, np.float32)  # the mean turn, over so many seconds
        self._usual_s = 0.0
        self._last_turn = np.zeros(3, np.float32)  # in the last frame
        self._known_s = 0.0  # for how long the driver has been known
        self._rest: RestPose | None = None
        self._seat: RestPose | None = None
        self._seat_s = 0.0
        self._time_ns = 0
        self._stranger_s = 0.0
        self._returned_ns: int | None = None
        self._rest_share = 0.0
        self._nearest = math.inf
        self._calibrating = False
        self._calibration: _Calibration | None = None

    @property
    def rest_share(self) -> float:
        """The weight of the last frame in a generator's own neutral; see ``Motion.rest_share``."""
        return self._rest_share

    @property
    def rest(self) -> RestPose:
        """The pose from which head motion counts. Available after the first ``update``."""
        assert self._rest is not None
        return self._rest

    @property
    def calibrating(self) -> bool:
        """True while frames are collected for a calibration."""
        return self._calibrating

    def set_portrait(self, face: FaceState | None) -> None:
        """Match the neutral to another portrait from now on; None if nothing is known of its face.

        A neutral that the user has chosen stays as it is.
        """
        before = self._portrait.displacement
        self._portrait = PortraitRest.unknown() if face is None else PortraitRest.of(face, self._model)
        self._nearest = math.inf
        if self._own is not None:
            if self._fixed:
                self._own = self._own + before - self._portrait.displacement
            else:
                self._neutral = self._sought_neutral()
            rest = self.rest
            self._rest = RestPose(self._rest_turn(), rest.origin, rest.scale)

    def calibrate(self) -> None:
        """Take the mean of the faces of the next ``CALIBRATION_NS`` as the neutral, and do not change it afterwards.

        Pictures of faces do not count: a calibration waits for a face that moves.
        """
        self._calibrating, self._calibration = True, None

    def found_again(self, time_ns: int, *, away: bool) -> None:
        """Note that the face was lost for more than a moment until ``time_ns``. A calibration then starts again.

        ``away`` is True if the driver was away for so long that the seat may be another one. Its position then becomes
        that of the rest pose.
        """
        if away and self._mode == "auto":
            self._returned_ns = time_ns
        if self._calibrating:
            self.calibrate()

    def begin_again(self) -> None:
        """Forget the driver: the next face counts as a different one. A calibration starts again."""
        self._own, self._own_s, self._fixed = None, 0.0, False
        self._neutral = self._rest = self._seat = None
        self._usual_s = self._known_s = self._seat_s = self._stranger_s = 0.0
        self._returned_ns = None
        self._nearest = math.inf
        if self._calibrating:
            self.calibrate()

    def mirror(self) -> None:
        """Continue with images that are horizontally flipped from now on."""
        if self._own is None or self._neutral is None:
            return
        expression = self._portrait.displacement if self._fixed else np.float32(0)
        self._own = (self._own + expression)[MIRROR] * FLIP - expression
        self._neutral = self._neutral[MIRROR] * FLIP
        flip = np.array([1, -1, -1], np.float32)
        self._usual_turn, self._last_turn = self._usual_turn * flip, self._last_turn * flip
        if self._fixed_displacement is not None:
            self._fixed_displacement = self._fixed_displacement[MIRROR] * FLIP
        seat = self._seat
        self._seat = None if seat is None else seat.mirrored()
        self._rest = RestPose(self._rest_turn(), self.rest.mirrored().origin, self.rest.scale)
        if self._calibrating:
            self.calibrate()

    def update(self, face: FaceState, pixels: Points) -> NeutralReading:
        """Take a frame into account, and return the face against the neutral.

        ``pixels`` are the face's landmarks, (478, 3).
        """
        passed_ns = face.time_ns - self._time_ns
        self._time_ns = face.time_ns
        elapsed_s = float(np.clip(passed_ns / 1e9, 1e-3, 0.5))
        shape, turn = canonical_shape(pixels), seen_turn(pixels, face.size)
        code = self._model.read(shape) if face.code is None else face.code
        displacement = self._model.displacement(code)
        self._rest_share = 0.0
        first = self._own is None
        if first:
            self._begin(face, pixels, shape, turn, displacement)
        if self._calibrating and not face.is_picture:
            self._collect(face, pixels, shape, displacement, turn, passed_ns)
        elif not first and not self._fixed:
            self._learn(shape, turn, displacement, elapsed_s)
        assert self._own is not None
        assert self._neutral is not None
        weight = 1 - math.exp(-elapsed_s / NEUTRAL_EASE_S)
        ahead = self._sought_neutral() - self._neutral
        if np.abs(ahead).max() > ARRIVED:
            # generators keep what depends on the neutral for as long as it is the same object
            self._neutral = self._neutral + np.float32(weight) * ahead
        against = pose_against(pixels, self._neutral)
        pose = to_sides(against, face.size)
        self._move_rest(pose, turn, face.time_ns, elapsed_s)
        self._share(displacement, turn)
        own = self._neutral - self._portrait.displacement
        seen = against.unproject(pixels)
        chosen = self._fixed_displacement
        modelled = self._neutral + displacement - (self._portrait.displacement if chosen is None else chosen)
        # if the portrait shows the driver, the residual is kept in full
        share = UNEXPLAINED + np.float32(self._same) * (1 - UNEXPLAINED)
        shape = np.asarray(modelled + share * (seen - modelled), np.float32)
        return NeutralReading(self._neutral, own, pose, shape, seen, turn)

    def _begin(self, face: FaceState, pixels: Points, shape: Points, turn: Floats, displacement: Points) -> None:
        """Start from the first face."""
        self._fixed, self._rest_share = self._mode == "first", 1.0
        known = self._portrait.displacement if self._fixed else displacement
        self._own, self._own_s = shape - known, 0.05
        self._fixed_displacement = displacement if self._fixed else None
        self._neutral = self._sought_neutral()
        self._usual_turn, self._usual_s, self._last_turn = turn, 0.0, turn
        pose = to_sides(pose_against(pixels, self._neutral), face.size)
        self._rest = RestPose(self._rest_turn(), pose.origin[:2], pose.scale)

    def _learn(self, shape: Points, turn: Floats, displacement: Points, elapsed_s: float) -> None:
        """Improve the identity shape and the driver's usual turn by a frame."""
        assert self._own is not None
        seen = shape - displacement
        away = _distance(seen, self._own)
        tilt = float(turn[0]) ** 2 + float(turn[1]) ** 2
        self._stranger_s = self._stranger_s + elapsed_s if away > STRANGER and tilt < TURNED**2 else 0.0
        if self._stranger_s > STRANGER_S:
            self._own_s, self._usual_s, self._known_s, self._stranger_s = 0.0, 0.0, 0.0, 0.0
        share = math.exp(-0.5 * tilt / TURNED**2)
        if self._own_s > 1:
            share /= 1 + (away / OUTLIER) ** 2
        counted = elapsed_s * share
        self._own_s = min(self._own_s + counted, MEMORY_S)
        self._own = self._own + np.float32(counted / max(self._own_s, 1e-6)) * (seen - self._own)
        self._usual_s = min(self._usual_s + elapsed_s, 10 * GLANCE_S)
        self._usual_turn = self._usual_turn + np.float32(elapsed_s / self._usual_s) * (turn - self._usual_turn)

    def _sought_neutral(self) -> Points:
        """Return the neutral that the one in use follows: that of the portrait itself if it shows the driver."""
        assert self._own is not None
        own, portrait = self._own, self._portrait
        self._same = 0.0 if self._fixed else portrait.sameness(own)
        if self._same > 0 and portrait.own is not None:
            own = own + np.float32(self._same) * (portrait.own - own)
        return own + portrait.displacement

    def _rest_turn(self) -> Floats:
        """Return the turn from which the head's turns count: the posterior mean, with glances as the noise."""
        if self._fixed:
            return self._usual_turn
        assert self._own is not None
        mean, std = self._portrait.straight(self._own)
        known = (1 + self._usual_s / GLANCE_S) * std**2
        return np.asarray(mean + known / (known + GLANCE_STD**2) * (self._usual_turn - mean), np.float32)

    def _move_rest(self, pose: Pose, seen: Floats, time_ns: int, elapsed_s: float) -> None:
        """Move the rest pose towards the usual one: quickly if the user calibrated it, else too slowly to see.

        ``seen`` are the angles at which the head is seen now.
        """
        rest, turn = self.rest, self._rest_turn()
        weight = 1 - math.exp(-elapsed_s / NEUTRAL_EASE_S)
        speed, self._last_turn = float(np.abs(seen - self._last_turn).max()) / elapsed_s, seen
        if self._returned_ns is not None:
            if 0 <= time_ns - self._returned_ns < SETTLE_NS:
                here = RestPose(rest.turn, pose.origin[:2], pose.scale)
                self._rest = rest.towards(here, np.array([0, weight, weight], np.float32))
                self._seat, self._seat_s = None, 0.0
                return
            self._returned_ns = None
        if self._fixed:
            target = self._seat or rest
            target = RestPose(turn, target.origin, target.scale)
            self._rest = rest.towards(target, np.full(3, weight, np.float32))
            return
        if self._seat is None:
            self._seat, self._seat_s = RestPose(turn, rest.origin, rest.scale), 1.0
        self._seat_s = min(self._seat_s + elapsed_s, SEAT_S)
        share = np.float32(elapsed_s / self._seat_s)
        here = RestPose(turn, pose.origin[:2], pose.scale)
        self._seat = self._seat.towards(here, np.array([1, share, share], np.float32))
        arriving = ARRIVAL_SPEED * math.exp(-self._known_s / ARRIVAL_S)
        self._known_s += elapsed_s
        covered = COVERED * max(speed - COVERED_FROM, 0.0)
        self._rest = rest.drift(self._seat, elapsed_s, faster=arriving + covered)

    def _collect(
        self, face: FaceState, pixels: Points, shape: Points, displacement: Points, turn: Floats, passed_ns: int
    ) -> None:
        """Add a face, seen ``passed_ns`` after the last one, to a calibration. Finish it after ``CALIBRATION_NS``."""
        assert self._neutral is not None
        calibration = self._calibration
        # at one frame per second two must suffice; a pause after more frames than that is an interruption
        if calibration is None or passed_ns < 0 or (passed_ns > CALIBRATION_NS and calibration.count > 1):
            zeros = np.zeros_like(shape), np.zeros_like(shape), np.zeros(3, np.float32), np.zeros(2, np.float32)
            calibration = self._calibration = _Calibration(face.time_ns + CALIBRATION_NS, 0, *zeros, 0.0)
        calibration.add(shape, displacement, turn, to_sides(pose_against(pixels, self._neutral), face.size))
        self._rest_share = 1 / calibration.count
        if face.time_ns < calibration.until_ns:
            return
        self._own = calibration.shape - self._portrait.displacement
        self._usual_turn, self._fixed_displacement = calibration.turn, calibration.displacement
        self._fixed, self._calibrating, self._calibration = True, False, None
        self._seat = RestPose(self._rest_turn(), calibration.origin, math.exp(calibration.log_scale))

    def _share(self, displacement: Points, turn: Floats) -> None:
        """Have a generator with a neutral of its own take the frame that is nearest to the portrait's expression.

        One that the user has chosen is not replaced.
        """
        if self._calibrating or self._fixed:
            return
        away = displacement - self._portrait.displacement
        distance = float(np.sqrt(np.mean(away**2))) + 0.1 * float(np.abs(turn - self.rest.turn).max())
        if distance < 0.8 * self._nearest - 0.002:
            self._nearest, self._rest_share = distance, 1.0
