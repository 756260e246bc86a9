"""Helpers of the browser tests: frames that the page shows, and the motion of the face in them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures

from engines.types import FaceState, Image
from realtime.portraits.portrait import PortraitPicture, yaw
from realtime.tracking.still_faces import FaceFinder
from tests.support.faces import mouth_gap, shape_of
from tools.latency.chromium import Tab, wait_until

_GRAB = """
async ({id, most, every}) => {
  const video = document.getElementById(id);
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  const context = canvas.getContext("2d", {willReadFrequently: true});
  const taken = [];
  let seen = 0;
  await new Promise((resolve) => {
    const limit = setTimeout(resolve, 4000 + 100 * most * every);
    const each = (now) => {
      if (seen++ % every === 0) {
        context.drawImage(video, 0, 0);
        taken.push({at: now, blob: canvas.convertToBlob({type: "image/jpeg", quality: 0.92})});
      }
      if (taken.length < most) video.requestVideoFrameCallback(each);
      else { clearTimeout(limit); resolve(); }
    };
    video.requestVideoFrameCallback(each);
  });
  const read = async (blob) => {
    const bytes = new Uint8Array(await (await blob).arrayBuffer());
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    return btoa(text);
  };
  return Promise.all(taken.map(async ({at, blob}) => ({at, jpeg: await read(blob)})));
}
"""


@dataclass(frozen=True, slots=True)
class ShownFrame:
    """A frame that a video of the page has shown."""

    at_ms: float
    """When it was shown, by the page's clock."""
    image: Image


def grab(page: Tab, video: str = "result", most: int = 1, every: int = 1) -> list[ShownFrame]:
    """Return up to ``most`` frames, every ``every``-th, that the video with that id shows from now on."""
    return _read(page.evaluate(_GRAB, {"id": video, "most": most, "every": every}))


def grab_both(page: Tab, most: int, every: int = 1) -> tuple[list[ShownFrame], list[ShownFrame]]:
    """Return frames of the camera and of the portrait, shown at the same time."""
    both = f"(what) => Promise.all(['preview', 'result'].map((id) => ({_GRAB})({{...what, id}})))"
    own, result = page.evaluate(both, {"most": most, "every": every})
    return _read(own), _read(result)


def _read(taken: list[dict[str, Any]]) -> list[ShownFrame]:
    def image(jpeg: str) -> Image:
        with Pictures.open(io.BytesIO(base64.b64decode(jpeg))) as picture:
            return np.asarray(picture.convert("RGB"))

    return [ShownFrame(each["at"], image(each["jpeg"])) for each in taken]


def go_live(page: Tab, timeout_s: float = 45.0) -> None:
    """Press the large button and wait until the portrait is shown."""
    page.click("#go")
    wait_live(page, timeout_s)


def wait_live(page: Tab, timeout_s: float = 45.0) -> None:
    """Wait until the portrait is shown."""
    shown = "!document.getElementById('result').hidden && document.getElementById('overlay').hidden"
    assert wait_until(page, shown, timeout_s), f"not live: {page.inner_text('body')}"


def wait_for_text(page: Tab, text: str, timeout_s: float = 15.0) -> None:
    """Wait until a visible text of the page contains ``text``, in upper or lower case."""
    there = f"document.body.innerText.toLowerCase().includes({text.lower()!r})"
    assert wait_until(page, there, timeout_s), f"{text!r} is not on the page: {page.inner_text('body')}"


def shows_a_face(page: Tab, finder: FaceFinder, most: int = 90) -> bool:
    """Return whether one of the next ``most`` frames shows a face. The first may be a slate."""
    return any(finder.find(each.image) for _ in range(most) for each in grab(page))


def measure_faces(finder: FaceFinder, pictures: list[ShownFrame]) -> NDArray[np.float64]:
    """Return, for each frame with a face, (n, 3): time in ms, opening of the lips, and yaw in degrees."""
    rows: list[tuple[float, float, float]] = []
    face: FaceState | None = None
    for each in pictures:
        if face is not None:
            face = finder.measure(each.image, face)
        if face is None:
            face = next(iter(finder.find(each.image)), None)
        if face is not None:
            rows.append((each.at_ms, mouth_gap(shape_of(face)), yaw(face)))
    return np.array(rows, np.float64).reshape(-1, 3)


def best_correlation(driver: NDArray[np.float64], result: NDArray[np.float64]) -> tuple[float, float]:
    """Return the correlations of lips and yaw, at the delay up to 400 ms where that of the lips is best."""
    best = (-1.0, 0.0)
    for delay_ms in range(0, 401, 10):
        then = result[:, 0] - delay_ms
        inside = (then >= driver[0, 0]) & (then <= driver[-1, 0])
        if inside.sum() < 20:
            continue
        lips_r, yaw_r = (
            float(np.corrcoef(np.interp(then[inside], driver[:, 0], driver[:, column]), result[inside, column])[0, 1])
            for column in (1, 2)
        )
        best = max(best, (lips_r, yaw_r))
    return best


def background(image: Image) -> NDArray[np.float64]:
    """Return a small picture (24, 16, 3) of what is beside and above the head."""
    height, width = image.shape[:2]
    part = image[: height // 2]
    sides = np.concatenate([part[:, : width // 6], part[:, -width // 6 :]], axis=1)
    with Pictures.fromarray(sides) as picture:
        return np.asarray(picture.resize((16, 24), Pictures.Resampling.BOX), np.float64)


def background_difference(one: Image, other: Image) -> float:
    """Return how much the backgrounds of two pictures differ, in grey levels."""
    return float(np.abs(background(one) - background(other)).mean())


def motion_correlation(page: Tab, portrait: PortraitPicture, finder: FaceFinder) -> tuple[float, float]:
    """Return how well lips and yaw of the result correlate with those of the camera.

    Assert that the background is that of the portrait.
    """
    assert shows_a_face(page, finder, 300), "the slate of the start is still shown"
    page.wait_for_timeout(2000)
    own, result = grab_both(page, 180)
    # 15 pictures a second are samples enough, and finding the face in each takes longer than the motion itself
    driver, driven = measure_faces(finder, own[::2]), measure_faces(finder, result[::2])
    assert len(driven) >= 0.9 * len(result[::2]) > 30
    lips_r, yaw_r = best_correlation(driver, driven)
    print(f"lips {lips_r:.2f}, yaw {yaw_r:.2f} over {len(driven)} pictures")
    shown, camera = result[-1].image, own[-1].image
    assert background_difference(shown, portrait.image) < 8 < background_difference(camera, portrait.image)
    assert background_difference(shown, camera) > 8
    return lips_r, yaw_r
