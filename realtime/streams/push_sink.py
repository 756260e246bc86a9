"""A Sink that pushes a stream to a server, from a process of its own.

PyAV holds the interpreter's lock while it connects and while a network is slow, and a stream must not disturb anything
else. The process gets frames through a ring buffer, newest wins, and sound and settings through a socket. It connects,
reconnects and tells how that goes; it is started again if it ends.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from engines.errors import ReenactError, SinkMissing
from realtime.core.child_process import command, passes_descriptors, start_process, wait_or_kill
from realtime.core.frames import Frame, PixelFormat
from realtime.core.sound import SoundPacket
from realtime.streams.backoff import Backoff
from realtime.streams.target import Target
from realtime.webrtc.ipc.frame_ring import RingWriter, create_ring
from realtime.webrtc.ipc.messages import Message, MessageSocket
from realtime.webrtc.settings import ServerSettings

_COMMAND = command("realtime.streams.process")
_STOP_S = 1.5
_SILENCE_S = 15.0
"""A process that tells nothing for this long hangs: it sends a sign of life every second."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """What is pushed."""

    size: tuple[int, int]
    """Width and height in pixels, both even."""
    fps: float
    media: ServerSettings
    """Bit rates, H.264 encoder and ICE servers."""


class PushSink:
    """A HearingSink. Sending never waits for the network, and never fails: the process reconnects by itself.

    ``notice`` gets one line when the stream is up, and when it is down with the reason. With ``follows_sound`` the
    moment of a frame is its ``time_ns``, the clock of the sound; otherwise that of its capture.
    """

    format = PixelFormat.I420
    notes: tuple[str, ...] = ()

    def __init__(
        self, target: Target, form: StreamFormat, notice: Callable[[str], None], *, follows_sound: bool = False
    ) -> None:
        """Raises SinkMissing if no process can be started."""
        if not passes_descriptors():
            found, cure = "a system that cannot pass descriptors between processes", "run it under WSL"
            raise SinkMissing("stream-unsupported-system", found, "Linux or macOS", cure)
        self.name = f"stream to {target.shown}"
        self.connected = threading.Event()
        """Set while the server takes the stream."""
        self.reconnects = 0
        """How often the stream was up again after it was down."""
        self.problem: str | None = None
        """The code of what keeps the stream down."""
        self._target = target
        self._form = form
        self._notice = notice
        self._follows_sound = follows_sound
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._was_up = False
        self._writer: RingWriter | None = None
        self._connection: MessageSocket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._spawn()
        except OSError as error:
            failure = _not_started(error)
            raise SinkMissing(failure.code, failure.found, cure=failure.cure) from None
        self._thread = threading.Thread(target=self._supervise, name="stream", daemon=True)
        self._thread.start()

    def send(self, frame: Frame) -> None:
        """Hand over a frame; while there is no process it is dropped."""
        with self._lock:
            if self._writer is not None:
                rows, width = frame.pixels.shape
                moment_ns = frame.time_ns if self._follows_sound else frame.stamps.captured
                self._writer.write((frame.pixels,), (width, rows * 2 // 3), moment_ns, time.monotonic_ns())

    def hear(self, packet: SoundPacket) -> None:
        """Hand over sound."""
        with self._lock:
            connection = self._connection
        if connection is not None:
            connection.send({"kind": "sound", "time_ns": packet.time_ns, "pts": packet.pts}, packet.data)

    def close(self) -> None:
        """End the stream and the process. close() is idempotent."""
        if self._closing.is_set():
            return
        with self._lock:
            self._closing.set()
            process, connection = self._process, self._connection
        if connection is not None:
            connection.send({"kind": "stop"})
        if process is not None:
            wait_or_kill(process, _STOP_S)
        self._thread.join(_STOP_S)
        self._release()

    def _spawn(self) -> None:
        """Start a process. Raises OSError."""
        with ExitStack() as failed:
            ring = create_ring(self._form.size[0] * self._form.size[1] * 3 // 2)
            failed.callback(ring.close)
            ours, theirs = socket.socketpair()
            failed.callback(ours.close)
            with theirs:
                process = start_process(_COMMAND, (theirs.fileno(), ring.memory, ring.wake_read))
            failed.pop_all()
        os.close(ring.wake_read)
        try:
            writer = RingWriter(ring.memory, ring.wake_write)
        except BaseException:
            ours.close()
            wait_or_kill(process, 0)
            raise
        connection = MessageSocket(ours)
        connection.set_receive_timeout(_SILENCE_S)
        with self._lock:
            self._process, self._connection, self._writer = process, connection, writer
        start = {"kind": "start", "target": asdict(self._target), "fps": self._form.fps, "size": list(self._form.size)}
        connection.send(start | {"media": self._form.media.to_json()})

    def _supervise(self) -> None:
        """Read what the process tells, and start it again whenever it ends."""
        backoff = Backoff()
        while not self._closing.is_set():
            began_s = time.monotonic()
            failure = self._read()
            self.connected.clear()
            exit_code = self._release()
            if failure is None and exit_code is not None:
                found = f"the process of the stream has ended (exit code {exit_code})"
                failure = ReenactError("stream-process-ended", found)
            if failure is not None:
                self._tell(failure)
            if time.monotonic() - began_s > _SILENCE_S:
                backoff.succeed()
            if self._closing.wait(backoff.fail(refused=False)):
                return
            try:
                self._spawn()
            except OSError as error:
                self._tell(_not_started(error))

    def _read(self) -> ReenactError | None:
        """Read messages until there are no more. Return why, unless the process has ended."""
        connection = self._connection
        if connection is None:
            return None
        try:
            for message in connection.messages():
                self._handle(message)
        except TimeoutError:
            return ReenactError("stream-process-silent", f"the process of the stream is silent for {_SILENCE_S:g} s")
        except Exception as error:
            if not isinstance(error, ValueError):
                logger.exception("cannot handle a message of the process of a stream")
            found = f"the process of the stream has sent an invalid message ({type(error).__name__})"
            return ReenactError("stream-process-bad-message", found)
        return None

    def _handle(self, message: Message) -> None:
        match message.values.get("kind"):
            case "up":
                self.reconnects += self._was_up
                again = f" again (reconnects: {self.reconnects})" if self._was_up else ""
                self._was_up, self.problem = True, None
                self.connected.set()
                self._notice(f"{self.name} is up{again}")
            case "down":
                self.connected.clear()
                self._tell(ReenactError.from_dict(message.values["error"]))

    def _tell(self, error: ReenactError) -> None:
        """Tell why the stream is down, once for each reason."""
        if error.code != self.problem and not self._closing.is_set():
            self.problem = error.code
            self._notice(f"{self.name} is down [{error.code}]: {error}; it is tried again, everything else goes on")

    def _release(self) -> int | None:
        """Close everything, and end the process. Return its exit code, if there is one."""
        with self._lock:
            process, connection, writer = self._process, self._connection, self._writer
            self._process = self._connection = self._writer = None
        if writer is not None:
            writer.close()
        if connection is not None:
            connection.close()
        if process is not None:
            wait_or_kill(process, 0.5)
        return None if process is None else process.returncode


def _not_started(error: OSError) -> ReenactError:
    found = f"the process of the stream cannot be started ({error.strerror})"
    return ReenactError("stream-no-process", found, cure="close other programs, and start again")
