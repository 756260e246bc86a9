"""The media process: started by MediaLink with two sockets, the way to the daemon and the one to serve on.

It ends when the daemon says so, and by itself when the daemon is gone, however that happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from engines.errors import ReenactError
from realtime.webrtc.ipc.messages import Message, Parser, encode, receive
from realtime.webrtc.process import ice
from realtime.webrtc.process.hub import MOST_PUBLISHERS, CallbackError, Hub
from realtime.webrtc.settings import ServerSettings
from realtime.webrtc.video import jitter_buffer
from realtime.webrtc.video.codecs import Codecs

_ORPHAN_S = 1.0
_CLOSE_S = 1.2
_MOST_UNSENT = 64 << 20
"""With this much waiting for the daemon nothing more is asked of it."""
_THREADS_BESIDE = 4
_FILES = 1 << 16
logger = logging.getLogger(__name__)


class MainProcessLine:
    """The media process' end of the wire, for the event loop. Sending never waits."""

    def __init__(self, connection: socket.socket) -> None:
        self.over = asyncio.Event()
        self.orders: asyncio.Queue[Message] = asyncio.Queue()
        self._connection = connection
        self._connection.setblocking(False)
        self._parser = Parser()
        self._unsent = bytearray()
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._numbers = itertools.count(1)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection, self._readable)

    async def ask(self, what: str, values: dict[str, Any], body: bytes = b"", *, timeout_s: float) -> Message:
        """Ask the desk and wait for its reply. Raises DeskError."""
        number = next(self._numbers)
        future: asyncio.Future[Message] = self._loop.create_future()
        self._waiting[number] = future
        try:
            question = encode({"say": "ask", "id": number, "what": what, **values}, body)
            if len(self._unsent) + len(question) > _MOST_UNSENT:
                raise CallbackError("the program takes no more requests at the moment")
            self._send(question)
            async with asyncio.timeout(timeout_s):
                reply = await future
        except TimeoutError:
            raise CallbackError(f"the program has not answered for {timeout_s:g} s") from None
        except ValueError as error:
            raise CallbackError(str(error)) from None
        finally:
            self._waiting.pop(number, None)
        if "error" in reply.values:
            raise ReenactError.from_dict(reply.values["error"])
        return reply

    def tell(self, values: dict[str, Any]) -> None:
        """Say something that wants no answer. Figures are left out while the daemon does not read."""
        if values.get("say") != "stats" or len(self._unsent) < _MOST_UNSENT:
            self._send(encode(values))

    def close(self) -> None:
        """Let go of the socket."""
        self.over.set()
        self._loop.remove_reader(self._connection)
        self._loop.remove_writer(self._connection)
        self._connection.close()
        self._parser.close()

    def _send(self, data: bytes) -> None:
        if self.over.is_set():
            return
        self._unsent += data
        self._writable()

    def _writable(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._connection.send(self._unsent)]
        except BlockingIOError:
            self._loop.add_writer(self._connection, self._writable)
            return
        except OSError:
            self.over.set()
        self._loop.remove_writer(self._connection)

    def _readable(self) -> None:
        try:
            data, fds = receive(self._connection)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self._loop.remove_reader(self._connection)
            self.over.set()
            return
        for message in self._parser.feed(data, fds):
            if message.values.get("do") != "reply":
                self.orders.put_nowait(message)
                continue
            future = self._waiting.get(message.values["id"])
            if future is not None and not future.done():
                future.set_result(message)


async def serve(wire: socket.socket, listener: socket.socket) -> None:
    """Serve until the daemon says stop or is gone."""
    line = MainProcessLine(wire)
    first = (await line.orders.get()).values
    settings = ServerSettings.from_json(first["settings"])
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(MOST_PUBLISHERS + settings.max_viewers + _THREADS_BESIDE, "encode"))
    loop.set_exception_handler(_exception)
    try:
        codecs, notes = prepare(settings)
        from realtime.webrtc.process.http_server import MediaServer
    except (ImportError, ReenactError) as error:
        line.tell({"say": "failed", "why": f"the media server cannot start: {error}"})
        return
    hub = Hub(settings, line, codecs)
    hub.notes = notes
    server = MediaServer(settings, hub)
    await server.start(listener)
    sweeper = asyncio.ensure_future(hub.sweep())
    sweeper.add_done_callback(_ended)
    for note in notes:
        line.tell({"say": "note", "text": note})
    line.tell({"say": "ready"})
    try:
        await _obey(line, hub)
    finally:
        sweeper.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await hub.close()
                await server.close()
        line.close()


def prepare(settings: ServerSettings) -> tuple[Codecs, list[str]]:
    """Set up aiortc as this process wants it; its codecs, and notes for the person.

    Raises UsageError where an encoder that was asked for does not work, ImportError without aiortc.
    """
    ice.install(settings)
    codecs = Codecs(settings)
    codecs.install()
    note = jitter_buffer.mend() if settings.jitter_mend else None
    return codecs, [] if note is None else [note]


async def _obey(line: MainProcessLine, hub: Hub) -> None:
    over = asyncio.ensure_future(line.over.wait())
    while True:
        order = asyncio.ensure_future(line.orders.get())
        await asyncio.wait((order, over), return_when=asyncio.FIRST_COMPLETED)
        if not order.done():
            order.cancel()
            return
        message = order.result()
        if message.values.get("do") == "stop":
            over.cancel()
            return
        hub.obey(message)


def _ended(sweeper: asyncio.Future[None]) -> None:
    """Say so where the sweeper fails: nobody would be closed any more who vanishes."""
    if not sweeper.cancelled() and (error := sweeper.exception()) is not None:
        logger.error("in the media process: the sweeper has failed", exc_info=error)


def _exception(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody awaited: connections that broke are everyday, the rest is a bug and is shown."""
    error = context.get("exception")
    if isinstance(error, OSError | asyncio.CancelledError):
        return
    logger.error("in the media process: %s", context.get("message"), exc_info=error)


def _watch_parent(connection: int) -> None:
    """End the process soon after the daemon is gone, even if the event loop hangs."""
    poll = select.poll()
    poll.register(connection, select.POLLHUP)
    poll.poll()
    time.sleep(_ORPHAN_S)
    os._exit(1)


def _raise_file_limit() -> None:
    """Let this process open more files than the usual 1024: connections, and a few for every peer."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def main() -> None:
    """``python -m realtime.webrtc.process.main WIRE LISTENER``: the descriptors of two open sockets."""
    wire_fd, listener_fd = (int(each) for each in sys.argv[1:3])
    # Ctrl-C reaches every process of a terminal: the daemon ends this one
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _raise_file_limit()
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.ERROR)
    # it shows what is no HTTP, with a traceback; what goes wrong in answers of ours is logged as they are given
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    threading.Thread(target=_watch_parent, args=(os.dup(wire_fd),), name="parent", daemon=True).start()
    asyncio.run(serve(socket.socket(fileno=wire_fd), socket.socket(fileno=listener_fd)))
    # threads of codecs and look-ups may still be at work: nothing of theirs is wanted
    os._exit(0)


if __name__ == "__main__":
    main()
