"""Render the pictures that come with the program: ``python -m tools.render_assets``.

The portraits of the gallery and the clip of the performer are modelled from the face model ICT-FaceKit (MIT, USC ICT)
and show no real human being. The result depends only on this code and on the model's file, which does not come with
the program.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image as Pillow

from tools.assets.gallery import GALLERY, STYLES
from tools.assets.performance import FPS, LOOP_S, draw_frames, truth, write_clip
from tools.assets.person import Quality
from tools.assets.pictures import make_picture
from tools.assets.scene import HeadMesh, open_mesh
from tools.support.command import new_app, run_app

SIZE = (960, 1280)
ASSETS = Path(__file__).resolve().parent.parent / "engines" / "assets"
MODEL = Path(os.environ.get("REENACT_SHARED") or ASSETS.parents[2] / "shared") / "models" / "ict_face" / "ict_face.npz"
LICENCE = "MIT, the reenact developers; rendered from ICT-FaceKit (MIT, USC ICT)"

app = new_app()

_Model = Annotated[Path, typer.Option(help="The face model, a file ict_face.npz.")]
_Out = Annotated[Path, typer.Option(help="The folder that is written to.")]


def save_portrait(mesh: HeadMesh, name: str, folder: Path, size: tuple[int, int], quality: Quality) -> Path:
    """Render a portrait of the gallery into ``folder`` and return its file."""
    path = folder / f"{name}.jpg"
    picture = make_picture(mesh, GALLERY[name], size, quality)
    Pillow.fromarray(picture).save(path, quality=90, optimize=True, progressive=True)
    return path


def write_list(folder: Path) -> None:
    """Write the list of the gallery: name, file, style and licence of each portrait, the default one first."""
    rows = [
        {"name": name.title(), "file": f"{name}.jpg", "style": STYLES[picture.style], "licence": LICENCE}
        for name, picture in GALLERY.items()
    ]
    (folder / "portraits.json").write_text(json.dumps(rows, indent=1) + "\n")


@app.command("portraits")
def portraits_command(
    out: _Out = ASSETS / "portraits",
    model: _Model = MODEL,
    quick: Annotated[bool, typer.Option("--quick", help="Render small, coarse previews.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Render these only.")] = None,
) -> None:
    """Render the portraits of the gallery."""
    out.mkdir(parents=True, exist_ok=True)
    mesh = open_mesh(model)
    size, quality = ((SIZE[0] // 2, SIZE[1] // 2), Quality(48, 2, 0.6)) if quick else (SIZE, Quality())
    for name in only or list(GALLERY):
        path = save_portrait(mesh, name, out, size, quality)
        print(f"{path}: {path.stat().st_size // 1024} KiB")
    write_list(out)


@app.command("performer")
def performer_command(out: _Out = ASSETS, model: _Model = MODEL) -> None:
    """Render the performer's clip and the file of its truth."""
    out.mkdir(parents=True, exist_ok=True)
    write_clip(draw_frames(open_mesh(model), range(round(LOOP_S * FPS))), out / "performer.mp4")
    np.savez_compressed(out / "performer.npz", **truth())
    print(f"{out / 'performer.mp4'}: {(out / 'performer.mp4').stat().st_size // 1024} KiB")


def main(arguments: list[str] | None = None, prog: str = "python -m tools.render_assets") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
