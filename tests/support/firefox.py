"""Headless Firefox, driven over WebDriver BiDi: the small part of it that the page's tests need."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import cv2

from engines.types import Image

_PREFERENCES = {
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "remote.active-protocols": 1,
    "app.update.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
}
_START_S = 60.0
_CALL_S = 60.0

_CAMERA = """
() => {
  if (!navigator.mediaDevices) return;
  const pictures = %s;
  navigator.mediaDevices.getUserMedia = async () => {
    const maps = await Promise.all(pictures.map((jpeg) => {
      const bytes = Uint8Array.from(atob(jpeg), (letter) => letter.charCodeAt(0));
      return createImageBitmap(new Blob([bytes], {type: "image/jpeg"}));
    }));
    const canvas = document.createElement("canvas");
    canvas.width = maps[0].width;
    canvas.height = maps[0].height;
    const context = canvas.getContext("2d");
    let shown = 0;
    const show = () => context.drawImage(maps[shown++ %% maps.length], 0, 0);
    show();
    setInterval(show, 1000 / 30);
    return canvas.captureStream(30);
  };
}
"""


def find_firefox() -> str | None:
    """Return the browser's path: ``REENACT_FIREFOX``, or the first on the path. None where there is none."""
    return os.environ.get("REENACT_FIREFOX") or shutil.which("firefox-esr") or shutil.which("firefox")


class Firefox:
    """A tab, with those methods of Playwright's Page that the tests use."""

    def __init__(self, loop: asyncio.Runner, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._loop, self._socket = loop, socket
        self._calls = 0
        self.errors: list[str] = []
        """The errors that pages have logged."""
        loop.run(self._call("session.new", {"capabilities": {}}))
        loop.run(self._call("session.subscribe", {"events": ["log.entryAdded"]}))
        tree = loop.run(self._call("browsingContext.getTree", {}))
        self._context: str = tree["contexts"][0]["context"]

    def call(self, method: str, **parameters: Any) -> Any:
        """Send a WebDriver BiDi command for this tab and return its result. Raises RuntimeError if it fails."""
        return self._loop.run(self._call(method, {"context": self._context, **parameters}))

    def goto(self, url: str) -> None:
        """Open a page."""
        self.call("browsingContext.navigate", url=url, wait="complete")

    def use_as_camera(self, pictures: Iterable[Image]) -> None:
        """Give the following pages a camera that repeats these pictures, RGB (H, W, 3), at 30 frames a second."""
        jpegs = [
            base64.b64encode(cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()).decode()
            for picture in pictures
        ]
        script = {"functionDeclaration": _CAMERA % json.dumps(jpegs)}
        self._loop.run(self._call("script.addPreloadScript", script))

    def evaluate(self, expression: str, arg: Any = None) -> Any:
        """Return the value of an expression, or of a function called with ``arg``."""
        whole = f"(async () => {{ const it = ({expression}); return JSON.stringify("
        whole += f"[typeof it === 'function' ? await it({json.dumps(arg)}) : await it]) }})()"
        answer = self.call("script.evaluate", expression=whole, target={"context": self._context}, awaitPromise=True)
        if answer["type"] != "success":
            raise RuntimeError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"]["value"])[0]

    def click(self, selector: str) -> None:
        """Click the centre of the element."""
        box = f"(() => {{ const at = document.querySelector({json.dumps(selector)}).getBoundingClientRect(); "
        x, y = self.evaluate(box + "return [at.x + at.width / 2, at.y + at.height / 2]; })()")
        moves = [
            {"type": "pointerMove", "x": round(x), "y": round(y)},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        self.call("input.performActions", actions=[{"type": "pointer", "id": "mouse", "actions": moves}])

    def inner_text(self, selector: str) -> str:
        """Return the visible text of an element."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def wait_for_timeout(self, timeout: float) -> None:
        """Wait for ``timeout`` milliseconds."""
        self._loop.run(asyncio.sleep(timeout / 1000))

    async def _call(self, method: str, parameters: dict[str, Any]) -> Any:
        self._calls += 1
        await self._socket.send_json({"id": self._calls, "method": method, "params": parameters})
        async with asyncio.timeout(_CALL_S):
            while True:
                message = await self._socket.receive_json()
                if message.get("id") == self._calls:
                    break
                if message.get("method") == "log.entryAdded" and message["params"]["level"] == "error":
                    self.errors.append(str(message["params"].get("text")))
        if message["type"] == "error":
            raise RuntimeError(f"{method}: {message['message']}")
        return message["result"]


@contextmanager
def firefox(command: str) -> Iterator[Firefox]:
    """Start a browser with an empty profile. Both end with the context."""
    with tempfile.TemporaryDirectory() as profile, asyncio.Runner() as loop:
        preferences = (f"user_pref({json.dumps(key)}, {json.dumps(value)});\n" for key, value in _PREFERENCES.items())
        Path(profile, "user.js").write_text("".join(preferences))
        log = Path(profile, "log.txt")
        arguments = [command, "--headless", "--profile", profile, "--remote-debugging-port", "0"]
        with log.open("w") as out:
            process = subprocess.Popen(
                arguments, stdout=out, stderr=subprocess.STDOUT, env=os.environ | {"HOME": profile}
            )
        try:
            address = loop.run(_listening_address(process, log))
            http, socket = loop.run(_connect(f"{address}/session"))
            try:
                yield Firefox(loop, socket)
            finally:
                loop.run(http.close())
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def _connect(address: str) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    http = aiohttp.ClientSession()
    return http, await http.ws_connect(address, max_msg_size=0)


async def _listening_address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return the address that the browser listens at, as soon as its log has it."""
    async with asyncio.timeout(_START_S):
        while True:
            found = re.search(r"WebDriver BiDi listening on (ws://\S+)", log.read_text())
            if found:
                return found[1]
            assert process.poll() is None, log.read_text()
            await asyncio.sleep(0.1)
