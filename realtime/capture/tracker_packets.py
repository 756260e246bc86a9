"""What other face trackers send, from bytes to coefficients: VMC over OSC, Live Link Face, iFacialMocap.

Each reader keeps what it has heard and returns a face when one is complete. Whatever else arrives is ignored: packets
come from the network, and may be anything.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Protocol

import numpy as np

from engines.face.coefficients import NAMES
from engines.face.head import turn_angles
from engines.types import Floats
from realtime.motion.motion_file import IN_ORDER, turn_of

Heard = tuple[Floats, Floats]
"""Coefficients (52,) in the order of ``NAMES``, and the turn of the head (3,) radians."""

MAX_PACKET = 16 << 10
"""Bytes; longer packets are of no tracker."""
MAX_TURN = math.pi / 2
_INDEX = {name.lower(): index for index, name in enumerate(NAMES)}
_VRM = {
    "a": {"jawopen": 0.6}, "i": {"mouthstretchleft": 0.5, "mouthstretchright": 0.5, "jawopen": 0.1},
    "u": {"mouthpucker": 0.7, "jawopen": 0.15},
    "e": {"mouthstretchleft": 0.4, "mouthstretchright": 0.4, "jawopen": 0.3},
    "o": {"mouthfunnel": 0.6, "jawopen": 0.35},
    "blink": {"eyeblinkleft": 1.0, "eyeblinkright": 1.0}, "blink_l": {"eyeblinkleft": 1.0},
    "blink_r": {"eyeblinkright": 1.0}, "joy": {"mouthsmileleft": 0.8, "mouthsmileright": 0.8},
    "fun": {"mouthsmileleft": 0.5, "mouthsmileright": 0.5}, "angry": {"browdownleft": 0.8, "browdownright": 0.8},
    "sorrow": {"mouthfrownleft": 0.6, "mouthfrownright": 0.6, "browinnerup": 0.6},
}  # fmt: skip
"""The expressions of VRM avatars, for programs that do not send the coefficients themselves."""


class PacketReader(Protocol):
    """Reads the packets of one kind of tracker."""

    def read(self, data: bytes) -> Heard | None:
        """Return the face that a packet completes; None if it completes none, or is none of this tracker's."""


class VmcReader:
    """VMC protocol (https://protocol.vmc.info): values by name until ``Apply``, bones of the avatar."""

    def __init__(self) -> None:
        self._values = np.zeros(len(NAMES), np.float32)
        self._vrm: dict[str, float] = {}
        self._turn = np.zeros(3, np.float32)

    def read(self, data: bytes) -> Heard | None:
        """See ``PacketReader``."""
        from pythonosc.osc_packet import OscPacket, ParseError

        if len(data) > MAX_PACKET:
            return None
        try:
            messages = [timed.message for timed in OscPacket(data).messages]
        except (ParseError, ValueError, RecursionError, OverflowError, IndexError, struct.error):
            return None
        heard: Heard | None = None
        for message in messages:
            if self._take(message.address, message.params):
                heard = self._face()
        return heard

    def _take(self, address: str, values: list[object]) -> bool:
        """Take a message in; return True where it completes a face."""
        if address == "/VMC/Ext/Blend/Val" and len(values) == 2:
            name, value = str(values[0]).lower(), values[1]
            if isinstance(value, float | int) and math.isfinite(value):
                share = min(max(float(value), 0.0), 1.0)
                if name in _INDEX:
                    self._values[_INDEX[name]] = share
                elif name in _VRM:
                    self._vrm[name] = share
        elif address == "/VMC/Ext/Bone/Pos" and len(values) == 8 and values[0] == "Head":
            numbers = [float(each) for each in values[4:] if isinstance(each, float | int)]
            if len(numbers) == 4 and all(map(math.isfinite, numbers)) and math.hypot(*numbers) > 0.1:
                self._turn = turn_of_quaternion(*numbers)
        return address == "/VMC/Ext/Blend/Apply"

    def _face(self) -> Heard:
        values = self._values.copy()
        for name, share in self._vrm.items():
            for coefficient, weight in _VRM[name].items():
                values[_INDEX[coefficient]] = max(values[_INDEX[coefficient]], weight * share)
        return values, self._turn.copy()


def turn_of_quaternion(x: float, y: float, z: float, w: float) -> Floats:
    """Return the turn of the head for a rotation in Unity's axes, whose three are all opposite to the head frame's."""
    length = math.hypot(x, y, z, w)
    x, y, z, w = x / length, y / length, z / length, w / length
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ],
        np.float32,
    )
    return np.clip(turn_angles(rotation), -MAX_TURN, MAX_TURN)


class LiveLinkReader:
    """Live Link Face: version, device (37 bytes), name, frame and rate, then 61 values, big-endian."""

    _START = 41
    """Bytes before the length of the name."""

    def read(self, data: bytes) -> Heard | None:
        """See ``PacketReader``."""
        if not self._START + 4 < len(data) <= MAX_PACKET:
            return None
        (length,) = struct.unpack_from("!i", data, self._START)
        at = self._START + 4 + length + 16
        if not 0 <= length <= 256 or len(data) != at + 1 + 61 * 4 or data[at] != 61:
            return None
        values = np.frombuffer(data, ">f4", 61, at + 1).astype(np.float32)
        if not np.isfinite(values).all():
            return None
        coefficients = np.zeros(len(NAMES), np.float32)
        coefficients[IN_ORDER] = np.clip(values[:52], 0, 1)
        return coefficients, turn_of(*np.clip(values[52:55], -MAX_TURN, MAX_TURN).tolist())


class IFacialMocapReader:
    """iFacialMocap: ``name-VALUE|...|=head#x,y,z,...`` in percent and degrees; later versions write & for the dash."""

    _VALUE = re.compile(r"([A-Za-z]+(?:_[LR])?)[-&](-?\d{1,4}(?:\.\d{1,6})?)")
    _HEAD = re.compile(r"=?head#(-?[\d.]{1,12}),(-?[\d.]{1,12}),(-?[\d.]{1,12})")

    def read(self, data: bytes) -> Heard | None:
        """See ``PacketReader``."""
        if len(data) > MAX_PACKET:
            return None
        coefficients = np.zeros(len(NAMES), np.float32)
        turn = np.zeros(3, np.float32)
        known = 0
        for part in data.decode("utf-8", "replace").split("|")[:128]:
            if match := self._VALUE.fullmatch(part):
                name = match[1].lower().replace("_l", "left").replace("_r", "right")
                if name in _INDEX:
                    coefficients[_INDEX[name]] = min(max(float(match[2]) / 100, 0.0), 1.0)
                    known += 1
            elif match := self._HEAD.match(part):
                try:
                    turn = np.radians([float(match[axis]) for axis in (1, 2, 3)]).astype(np.float32)
                except ValueError:
                    return None
        return (coefficients, np.clip(turn, -MAX_TURN, MAX_TURN)) if known > 20 else None
