"""What each slider does, as MediaPipe's official face landmarker reads it from the pictures.

    python -m tools.expression_training.figures [PORTRAIT...] [--sheet FOLDER] [--json OUT]

Each of 30 controls is set to 0, 0.25, 0.5, 0.75 and 1 on each portrait, without a driver. *Rises* is the share of
portraits on which the reading of what was set rises at every step; *cross-talk* is the largest change of a reading of
another group over that of what was set, both at 1.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from engines.errors import TrackerError
from engines.mesh.generator import MeshGenerator
from engines.types import Floats, Image
from realtime.motion.controls import COEFFICIENTS, GROUPS, group_of, resolve
from realtime.motion.direction import Direction
from realtime.motion.motion_transfer import MotionTransfer
from realtime.portraits.bundled import with_bundled
from realtime.portraits.portrait import load_portrait
from realtime.tracking.still_faces import FaceFinder
from tools.expression_training.samples import open_landmarker
from tools.fidelity_suite.reference_tracker import default_model
from tools.support.command import new_app, run_app
from tools.support.files import write_json, write_picture

STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)
PORTRAITS = ("clara", "idris", "rosa", "mei", "yuki")
"""Two rendered ones, an oil painting, a watercolour and a drawing."""
CONTROLS = (
    "browDown", "browInnerUp", "browOuterUp", "eyeBlink", "eyeBlinkLeft", "eyeBlinkRight", "eyeSquint", "eyeWide",
    "AU61", "AU62", "AU63", "AU64", "jawOpen", "jawLeft", "jawRight", "mouthFunnel", "mouthPucker", "mouthLeft",
    "mouthRight", "mouthSmile", "mouthSmileLeft", "mouthSmileRight", "mouthFrown", "mouthLowerDown", "mouthUpperUp",
    "mouthPress", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthStretch",
)  # fmt: skip
"""What can be seen on a portrait; both eyes look the same way, so that gaze is set by action units."""
SHOWN: tuple[dict[str, float], ...] = (
    {}, {"smile": 0.8}, {"brows": 1.0, "eyesOpen": 0.6, "jawOpen": 0.45}, {"AU61": 0.8, "headYaw": -0.4},
    {"smile": -0.7, "browInnerUp": 0.8, "headPitch": -0.25}, {"eyeBlinkLeft": 1.0, "mouthSmileLeft": 0.7},
)  # fmt: skip
"""What the picture of the documents shows of each portrait."""
SHOWN_SIDE = 240
FIRM = 0.005
"""What a reading may fall by within its noise."""
SIZE = (512, 512)
_INDEX = {name: index for index, name in enumerate(COEFFICIENTS)}

app = new_app()


@app.command()
def figures_command(
    portraits: Annotated[list[str] | None, typer.Argument(help="pictures or names of bundled portraits")] = None,
    sheet: Annotated[Path | None, typer.Option(help="folder for a sheet of each portrait")] = None,
    model: Annotated[Path | None, typer.Option(help="the landmarker's file; the downloaded one by default")] = None,
    picture: Annotated[Path | None, typer.Option(help="write the picture of the documents instead")] = None,
    json: Annotated[Path | None, typer.Option(help="write the readings to this file")] = None,
) -> None:
    """Print what each of 30 controls does on each portrait."""
    if picture is not None:
        names = portraits or ["clara", "leo", "yuki"]
        strips = [np.hstack([_small(image, SHOWN_SIDE) for image in _shown(Path(name), SHOWN, SIZE)]) for name in names]
        write_picture(picture, np.vstack(strips), "--picture", [cv2.IMWRITE_JPEG_QUALITY, 88])
        return
    read = _open_reader(model or default_model())
    results: dict[str, Floats] = {}
    for name in portraits or list(PORTRAITS):
        rows, pictures = _readings(Path(name), read)
        results[Path(name).stem] = rows
        if sheet is not None:
            sheet.mkdir(parents=True, exist_ok=True)
            write_picture(sheet / f"{Path(name).stem}.png", _sheet(pictures), "--sheet")
    Console().print(_table(results))
    if json is not None:
        write_json(json, {name: rows.tolist() for name, rows in results.items()}, "--json")


def _open_reader(model: Path) -> Any:
    """Return a function from a picture to the coefficients (51,) that the bundle reads; None without a face."""
    import mediapipe

    landmarker, order = open_landmarker(model)

    def read(image: Image) -> Floats | None:
        found = landmarker.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image))
        if not found.face_blendshapes:
            return None
        return np.array([found.face_blendshapes[0][index].score for index in order], np.float32)

    return read


def _readings(path: Path, read: Any) -> tuple[Floats, list[list[Image]]]:
    """Return the readings (controls, steps, 51) on a portrait, and the picture of each. Raises TrackerError."""
    pictures: list[list[Image]] = []
    rows = np.zeros((len(CONTROLS), len(STEPS), len(COEFFICIENTS)), np.float32)
    settings = [{control: value} for control in CONTROLS for value in STEPS]
    for number, (setting, image) in enumerate(zip(settings, _shown(path, settings, SIZE), strict=True)):
        row, column = divmod(number, len(STEPS))
        reading = read(image)
        if reading is None:
            raise TrackerError("figures-no-face", f"no face in {path} with {setting}")
        rows[row, column] = reading
        if column == 0:
            pictures.append([])
        pictures[-1].append(image)
    return rows, pictures


def _shown(path: Path, settings: Iterable[dict[str, float]], size: tuple[int, int]) -> Iterator[Image]:
    """Yield a portrait with each setting. Raises PortraitError, TrackerError."""
    with FaceFinder() as finder:
        loaded = load_portrait(with_bundled(path), size, fit="crop", finder=finder)
    generator = MeshGenerator("painted")
    portrait = generator.prepare(loaded.name, loaded.image, loaded.face, loaded.matte)
    for setting in settings:
        transfer = MotionTransfer(direction=Direction(setting))
        transfer.set_portrait(loaded.face)
        yield generator.drive(portrait, transfer.update(None, 0), None).copy()
    generator.close()


def judged(control: str, rows: Floats) -> tuple[bool, float, float]:
    """Return whether the readings (steps, 51) rise, by how much at the end, and the cross-talk."""
    moved = [_INDEX[name] for name in resolve({control: 1.0})]
    groups = {group_of(COEFFICIENTS[index]) for index in moved}
    main = rows[:, moved].mean(axis=1)
    rise = float(main[-1] - main[0])
    rises = bool((np.diff(main) > -FIRM).all()) and rise > 4 * FIRM
    others = [index for index, name in enumerate(COEFFICIENTS) if group_of(name) not in groups]
    cross = float(np.abs(rows[-1, others] - rows[0, others]).max())
    return rises, rise, cross / max(rise, 1e-6)


def _table(results: dict[str, Floats]) -> Table:
    table = Table("control", *results, "rises", "cross-talk", title="reading at 0.5 and 1, less that at 0")
    counts: list[bool] = []
    crossed: list[float] = []
    for row, control in enumerate(CONTROLS):
        each = [judged(control, rows[row]) for rows in results.values()]
        moved = [_INDEX[name] for name in resolve({control: 1.0})]
        cells = []
        for rows, (rises, rise, _) in zip(results.values(), each, strict=True):
            half = float((rows[row, 2, moved] - rows[row, 0, moved]).mean())
            cells.append(f"{half:.2f} {rise:.2f}{'' if rises else ' !'}")
        rising, cross = [rises for rises, _, _ in each], float(np.median([cross for _, _, cross in each]))
        counts += rising
        crossed.append(cross)
        table.add_row(control, *cells, f"{sum(rising)}/{len(rising)}", f"{cross:.2f}")
    share, low = float(np.mean(counts)), float(np.mean(np.array(crossed) <= 0.25))
    table.caption = (
        f"rises: {share:.0%} of all; cross-talk to other groups ({', '.join(GROUPS[:4])}) <= 0.25: {low:.0%}"
    )
    return table


def _sheet(pictures: list[list[Image]]) -> Image:
    """Return the pictures of a portrait, three controls in a row, with their names."""
    strips = []
    for control, row in zip(CONTROLS, pictures, strict=True):
        strip = np.hstack([_small(image, 160) for image in row[::2]])
        cv2.putText(strip, control, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(strip, control, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        strips.append(strip)
    return np.asarray(np.vstack([np.hstack(strips[at : at + 3]) for at in range(0, len(strips), 3)]), np.uint8)


def _small(image: Image, side: int) -> Image:
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def main(arguments: list[str] | None = None, prog: str = "python -m tools.expression_training.figures") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
