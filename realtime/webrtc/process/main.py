"""The media process, started by MediaLink with two sockets: the connection to the main process and the listener.

It ends when the main process says so, and by itself when the main process is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from engines.errors import ReenactError, SinkMissing
from engines.install_hint import install_command
from realtime.core.child_process import end_with_parent
from realtime.webrtc.process import aiortc_setup
from realtime.webrtc.process.background_tasks import BackgroundTasks
from realtime.webrtc.process.main_process_connection import MainProcessConnection
from realtime.webrtc.process.peer_registry import MAX_PUBLISHERS, PeerRegistry
from realtime.webrtc.settings import ServerSettings

_CLOSE_TIMEOUT_S = 1.2
_EXTRA_THREADS = 4
_MAX_FILES = 1 << 16
logger = logging.getLogger(__name__)


async def serve(connection: socket.socket, listener: socket.socket) -> None:
    """Serve until the main process sends ``stop`` or is gone."""
    main_process = MainProcessConnection(connection)
    first = (await main_process.messages.get()).values
    settings = ServerSettings.from_json(first["settings"])
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(MAX_PUBLISHERS + settings.max_viewers + _EXTRA_THREADS, "encode"))
    loop.set_exception_handler(_log_unhandled)
    try:
        codecs = aiortc_setup.install(settings)
        from realtime.webrtc.process.http_server import HttpServer
    except ReenactError as error:
        main_process.send({"kind": "failed", "error": error.to_dict()})
        return
    except ImportError as error:
        found = f"the media server cannot start: {error}"
        missing = SinkMissing("webrtc-library-missing", found, cure=install_command())
        main_process.send({"kind": "failed", "error": missing.to_dict()})
        return
    registry = PeerRegistry(settings, main_process, codecs)
    server = HttpServer(settings, registry)
    await server.start(listener)
    tasks = BackgroundTasks()
    tasks.spawn(registry.sweep())
    main_process.send({"kind": "ready"})
    try:
        await _handle_messages(main_process, registry)
    finally:
        tasks.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await registry.close()
                await server.close()
        main_process.close()


async def _handle_messages(main_process: MainProcessConnection, registry: PeerRegistry) -> None:
    """Handle messages of the main process until it sends ``stop`` or is gone."""
    closed = asyncio.ensure_future(main_process.closed.wait())
    while True:
        received = asyncio.ensure_future(main_process.messages.get())
        await asyncio.wait((received, closed), return_when=asyncio.FIRST_COMPLETED)
        if not received.done():
            received.cancel()
            return
        message = received.result()
        if message.values.get("kind") == "stop":
            closed.cancel()
            return
        registry.handle(message)


def _log_unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log exceptions that nothing awaited, except broken connections, which are normal."""
    error = context.get("exception")
    if isinstance(error, OSError | asyncio.CancelledError):
        return
    logger.error("in the media process: %s", context.get("message"), exc_info=error)


def _raise_file_limit() -> None:
    """Raise the limit of open files, usually 1024: every connection needs one, and every peer a few."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> None:
    """Run ``python -m realtime.webrtc.process.main CONNECTION LISTENER``: the descriptors of two open sockets."""
    connection_fd, listener_fd = (int(each) for each in sys.argv[1:3])
    # Ctrl-C in a terminal reaches every process: the main process ends this one
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _raise_file_limit()
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.ERROR)
    # aiohttp logs clients that do not speak HTTP with a traceback; failures of handlers are logged by the middleware
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    end_with_parent(connection_fd)
    asyncio.run(serve(socket.socket(fileno=connection_fd), socket.socket(fileno=listener_fd)))
    # codec threads and name look-ups may still run: their results are not needed
    os._exit(0)


if __name__ == "__main__":
    main()
