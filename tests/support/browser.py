"""What the browser tests look with: pictures out of the page, and what a face in them does."""

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

_TAKE = """
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
class Taken:
    """A picture that a video of the page showed."""

    at_ms: float
    """By the page's clock."""
    image: Image


def take(page: Tab, video: str = "result", most: int = 1, every: int = 1) -> list[Taken]:
    """Up to ``most`` pictures, each ``every``-th, that the video with that id shows from now on."""
    return _read(page.evaluate(_TAKE, {"id": video, "most": most, "every": every}))


def take_both(page: Tab, most: int, every: int = 1) -> tuple[list[Taken], list[Taken]]:
    """The camera's pictures and the portrait's, of the same time."""
    both = f"(what) => Promise.all(['preview', 'result'].map((id) => ({_TAKE})({{...what, id}})))"
    own, result = page.evaluate(both, {"most": most, "every": every})
    return _read(own), _read(result)


def _read(taken: list[dict[str, Any]]) -> list[Taken]:
    def image(jpeg: str) -> Image:
        with Pictures.open(io.BytesIO(base64.b64decode(jpeg))) as picture:
            return np.asarray(picture.convert("RGB"))

    return [Taken(each["at"], image(each["jpeg"])) for each in taken]


def go_live(page: Tab, timeout_s: float = 45.0) -> None:
    """Press the button and wait for the portrait, and for a face to drive it."""
    page.click("#go")
    wait_live(page, timeout_s)


def wait_live(page: Tab, timeout_s: float = 45.0) -> None:
    """Wait until the portrait is shown."""
    shown = "!document.getElementById('result').hidden && document.getElementById('overlay').hidden"
    assert wait_until(page, shown, timeout_s), f"not live: {page.inner_text('body')}"


def says(page: Tab, text: str, timeout_s: float = 15.0) -> None:
    """Wait until the page says something, anywhere a person sees it."""
    there = f"document.body.innerText.toLowerCase().includes({text.lower()!r})"
    assert wait_until(page, there, timeout_s), f"{text!r} is not on the page: {page.inner_text('body')}"


def shows_a_face(page: Tab, finder: FaceFinder, most: int = 90) -> bool:
    """Whether a face comes up among that many pictures: the first of a stream may be the slate that says "waiting"."""
    return any(finder.find(each.image) for _ in range(most) for each in take(page))


def followed(finder: FaceFinder, pictures: list[Taken]) -> NDArray[np.float64]:
    """Time in ms, opening of the lips and yaw in degrees of the face in each picture that has one, (n, 3)."""
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


def likeness(driver: NDArray[np.float64], result: NDArray[np.float64]) -> tuple[float, float]:
    """Correlation of the lips and of yaw, at the delay between 0 and 400 ms where the lips agree best."""
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


def surround(image: Image) -> NDArray[np.float64]:
    """What lies beside and above a head: the sides of the upper half of a picture, coarsely, (24, 16, 3)."""
    height, width = image.shape[:2]
    part = image[: height // 2]
    sides = np.concatenate([part[:, : width // 6], part[:, -width // 6 :]], axis=1)
    with Pictures.fromarray(sides) as picture:
        return np.asarray(picture.resize((16, 24), Pictures.Resampling.BOX), np.float64)


def apart(one: Image, other: Image) -> float:
    """How far two pictures' surroundings differ, in grey levels."""
    return float(np.abs(surround(one) - surround(other)).mean())


def follows(page: Tab, portrait: PortraitPicture, finder: FaceFinder) -> tuple[float, float]:
    """How well lips and yaw of what comes back go with the driver's (r); all around the face is the portrait's."""
    page.wait_for_timeout(2000)
    own, result = take_both(page, 180)
    driver, driven = followed(finder, own), followed(finder, result)
    assert len(driven) >= 0.9 * len(result) > 60
    lips_r, yaw_r = likeness(driver, driven)
    print(f"lips {lips_r:.2f}, yaw {yaw_r:.2f} over {len(driven)} pictures")
    shown, camera = result[-1].image, own[-1].image
    assert apart(shown, portrait.image) < 8 < apart(camera, portrait.image)
    assert apart(shown, camera) > 8
    return lips_r, yaw_r
