"""Another program that tracks the face as a source: packets come in, faces without pictures go out."""

from __future__ import annotations

import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable

from engines.errors import SourceLost, SourceMissing
from realtime.capture.motion_source import NO_PIXELS, PAINTED
from realtime.capture.tracker_packets import (
    MAX_PACKET,
    Heard,
    IFacialMocapReader,
    LiveLinkReader,
    PacketReader,
    VmcReader,
)
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.core.host_port import parse_host_port
from realtime.motion.tracked import tracked_face

READERS: dict[str, Callable[[], PacketReader]] = {
    "vmc": VmcReader,
    "livelink": LiveLinkReader,
    "ifacialmocap": IFacialMocapReader,
}
IFACIALMOCAP_PORT = 49983
_HELLO = b"iFacialMocap_sahuasouryya9218sauhuiayeta91555dy3719"
"""What the app waits for before it sends."""
HELLO_S = 2.0
SILENCE_S = 0.5
"""Without a face for this long it is lost."""
FPS = 60.0
MAX_FPS = 120.0
"""Frames come no faster than this, however many packets do."""
MOST_READ, MOST_DROPPED = 32, 2048
"""The newest packets that are read, and the older ones that are thrown away unread, for one frame."""


def parse_link(spec: str) -> tuple[str, str, int]:
    """Return kind, host and port of ``vmc:[HOST:]PORT``, ``livelink:[HOST:]PORT`` or ``ifacialmocap:HOST``.

    The host is the address to listen at, this machine alone by default; of iFacialMocap it is the phone's. Raises
    SourceMissing.
    """
    kind, _, where = spec.partition(":")
    if kind == "ifacialmocap" and re.fullmatch(r"[A-Za-z0-9._-]+", where):
        return kind, where, IFACIALMOCAP_PORT
    try:
        if kind != "ifacialmocap":
            return kind, *parse_host_port(where, "127.0.0.1")
    except ValueError:
        pass
    expected = "vmc:PORT, livelink:PORT or ifacialmocap:HOST"
    raise SourceMissing("tracker-address", f"--camera {spec}", expected, "give a port, such as vmc:39539")


class TrackerLink:
    """Receives from another tracker. Silence is a face that is lost; the newest packet wins."""

    live = True
    frames: int | None = None

    def __init__(self, kind: str, host: str, port: int, *, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Listen. Raises SourceMissing."""
        self._reader = READERS[kind]()
        self._phone = _address_of(host) if kind == "ifacialmocap" else None
        listen = ("127.0.0.1" if host in ("localhost", "127.0.0.1") else "0.0.0.0") if self._phone else host
        self.size = (640, 480)
        self.fps = FPS
        self.skipped = 0
        self.name = f"{kind} at {listen}:{port}" if self._phone is None else f"iFacialMocap on {host}"
        self.notes: tuple[str, ...] = (PAINTED,)
        self._now_ns = now_ns
        self._seq = 0
        self._heard_ns: int | None = None
        self._frame_ns = 0
        self._hello_ns = 0
        family = socket.AF_INET6 if ":" in listen else socket.AF_INET
        self._socket: socket.socket | None = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.bind((listen, port))
        except OSError as error:
            self.close()
            found = f"port {port} of {listen} cannot be listened at: {error.strerror}"
            cure = "close the program that uses it, or choose another port"
            raise SourceMissing("tracker-port", found, "a free port", cure) from None
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]

    def read(self) -> Frame:
        """Wait for the next face and return it; after a silence, return a frame without one. Raises SourceLost."""
        period = round(1e9 / FPS)
        while True:
            self._greet()
            rest = self._frame_ns + round(1e9 / MAX_FPS) - self._now_ns()
            if rest > 0:
                time.sleep(rest / 1e9)
            heard = self._newest(period / 1e9)
            now = self._now_ns()
            if heard is not None:
                self._heard_ns = now
            elif self._heard_ns is not None and now - self._heard_ns < SILENCE_S * 1e9:
                continue
            self._frame_ns = now
            self._seq += 1
            face = None if heard is None else tracked_face(*heard, self._seq, now)
            return Frame(NO_PIXELS, PixelFormat.RGB, self._seq, Stamps(now), now, tracked=True, face=face)

    def _newest(self, timeout_s: float) -> Heard | None:
        """Return the newest face among the packets that are waiting or come in time."""
        if self._socket is None:
            raise SourceLost("tracker-closed", "the link to the tracker is closed")
        select.select([self._socket], [], [], timeout_s)
        waiting: deque[bytes] = deque(maxlen=MOST_READ)
        for _ in range(MOST_READ + MOST_DROPPED):
            try:
                data, sender = self._socket.recvfrom(MAX_PACKET + 1)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno is not None and isinstance(error, ConnectionError):
                    continue  # what was sent before reached nothing: the phone's app is not open yet
                raise SourceLost("tracker-lost", f"the network is lost: {error.strerror}") from None
            if self._phone in (None, sender[0]):
                self.skipped += len(waiting) == MOST_READ
                waiting.append(data)
        newest: Heard | None = None
        for data in waiting:
            newest = self._reader.read(data) or newest
        return newest

    def _greet(self) -> None:
        """Ask the phone to send, again and again while it is silent."""
        now = self._now_ns()
        if self._phone is None or self._socket is None or now - self._hello_ns < HELLO_S * 1e9:
            return
        self._hello_ns = now
        try:
            self._socket.sendto(_HELLO, (self._phone, IFACIALMOCAP_PORT))
        except OSError:
            return  # the next time may do: the phone joins the network when it likes

    def close(self) -> None:
        """Stop listening. Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _address_of(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError:
        found = f"the host {host} is not known"
        raise SourceMissing("tracker-host", found, "the address that the app shows", "check it") from None
