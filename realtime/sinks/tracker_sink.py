"""Sends what the driver's face does to other programs: VMC protocol, or plain OSC."""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Callable, Sequence

import numpy as np

from engines.errors import SinkMissing
from engines.face.coefficients import NAMES
from engines.face.head import from_turn_angles
from engines.types import FaceState, Floats
from realtime.core.host_port import parse_host_port
from realtime.motion.motion_file import eye_angles, face_turn

IN_A_BUNDLE = 20
"""Messages in a packet: as many as fit into one of the network's."""
_BUNDLE = b"#bundle\0" + struct.pack("!Q", 1)
"""The head of a bundle that counts at once."""


def parse_address(spec: str) -> tuple[str, str, int]:
    """Return kind, host and port of ``vmc:HOST:PORT`` or ``osc:HOST:PORT``. Raises ValueError."""
    kind, _, where = spec.partition(":")
    return kind, *parse_host_port(where)


class TrackerSink:
    """Sends each face at once, without waiting. Used by one thread."""

    def __init__(self, kind: str, host: str, port: int) -> None:
        """Open the socket. Raises SinkMissing."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        except OSError:
            found_text = f"the host {host} is not known"
            raise SinkMissing("tracker-sink-host", found_text, "an address", "check --sink") from None
        self._target = found[4]
        self._socket: socket.socket | None = socket.socket(found[0], socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._messages: Callable[[FaceState], list[bytes]] = _Vmc() if kind == "vmc" else _Plain()

    def add(self, face: FaceState) -> None:
        """Send a face. What cannot be sent at once is dropped: the next one is on its way."""
        if self._socket is None or face.expression is None:
            return
        messages = self._messages(face)
        for start in range(0, len(messages), IN_A_BUNDLE):
            parts = messages[start : start + IN_A_BUNDLE]
            packet = _BUNDLE + b"".join(struct.pack("!i", len(part)) + part for part in parts)
            try:
                self._socket.sendto(packet, self._target)
            except OSError:
                return

    def close(self) -> None:
        """Close the socket. Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Vmc:
    """Builds the messages of a face in VMC protocol."""

    def __init__(self) -> None:
        self._values = [_prefix("/VMC/Ext/Blend/Val", name, 0.0) for name in NAMES]
        self._bones = [_prefix("/VMC/Ext/Bone/Pos", name, *[0.0] * 7) for name in ("Head", "LeftEye", "RightEye")]
        self._apply = _message("/VMC/Ext/Blend/Apply")
        self._ok = _message("/VMC/Ext/OK", 1)
        self._time = _prefix("/VMC/Ext/T", 0.0)

    def __call__(self, face: FaceState) -> list[bytes]:
        assert face.expression is not None
        eyes = eye_angles(face.expression)
        turns = [face_turn(face), *(_eye_turn(*eyes[at : at + 2]) for at in (0, 3))]
        bones = [
            prefix + struct.pack("!7f", 0, 0, 0, *_quaternion(turn))
            for prefix, turn in zip(self._bones, turns, strict=True)
        ]
        values = [
            prefix + struct.pack("!f", value)
            for prefix, value in zip(self._values, face.expression.tolist(), strict=True)
        ]
        seconds = struct.pack("!f", face.time_ns / 1e9 % 86400)
        return [self._ok, self._time + seconds, *bones, *values, self._apply]


class _Plain:
    """Builds messages of one value each: ``/reenact/NAME``, and the head's turn in degrees."""

    def __init__(self) -> None:
        self._values = [_prefix(f"/reenact/{name}", 0.0) for name in NAMES]
        self._head = _prefix("/reenact/head", 0.0, 0.0, 0.0)
        self._time = _prefix("/reenact/time", 0.0)

    def __call__(self, face: FaceState) -> list[bytes]:
        assert face.expression is not None
        pitch, yaw, roll = np.degrees(face_turn(face)).tolist()
        return [
            self._time + struct.pack("!f", face.time_ns / 1e9 % 86400),
            self._head + struct.pack("!3f", -pitch, -yaw, roll),
            *(
                prefix + struct.pack("!f", value)
                for prefix, value in zip(self._values, face.expression.tolist(), strict=True)
            ),
        ]


def _message(address: str, *values: str | float | int) -> bytes:
    from pythonosc.osc_message_builder import OscMessageBuilder

    builder = OscMessageBuilder(address)
    for value in values:
        builder.add_arg(value, "f" if isinstance(value, float) else None)
    return bytes(builder.build().dgram)


def _prefix(address: str, *values: str | float) -> bytes:
    """Return a message without its floats, which are at its end: they are all that changes from face to face."""
    floats = sum(isinstance(value, float) for value in values)
    return _message(address, *values)[: -4 * floats]


def _eye_turn(yaw: float, pitch: float) -> Floats:
    return np.array([-pitch, -yaw, 0], np.float32)


def _quaternion(turn: Floats) -> Sequence[float]:
    """Return a turn as x, y, z and w in Unity's axes, see ``tracker_packets.turn_of_quaternion``."""
    m = from_turn_angles(turn).astype(float)
    w = math.sqrt(max(1 + m[0, 0] + m[1, 1] + m[2, 2], 1e-9)) / 2
    return (m[2, 1] - m[1, 2]) / (4 * w), (m[0, 2] - m[2, 0]) / (4 * w), (m[1, 0] - m[0, 1]) / (4 * w), w
