"""Render the two pictures that come with the program: ``python -m tools.render_assets``.

``portrait.png`` is the default portrait, ``performer.png`` the face of the scripted performer. Both
are modelled from scratch and show no real person. The result depends only on this code.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image as Pillow

from tools.assets.hair import Haircut, Strands, grow_details, grow_hair
from tools.assets.light import Camera, Floats, light, visible_surface
from tools.assets.paint import Paint, pack, paint, scatter
from tools.assets.shape import Shape
from tools.assets.strands import LAYERS, draw_strands, light_frame, opacity_layers, shade_strands
from tools.support.command import new_app, run_app

SIZE = (1280, 960)
ASSETS = Path(__file__).resolve().parent.parent / "engines" / "assets"


class Person(NamedTuple):
    """The parameters of a picture of a modelled person. ``backdrop``: its colours in the light and in the shade."""

    shape: Shape
    paint: Paint
    cut: Haircut
    hairline: tuple[tuple[float, float], ...]
    lashes: float
    lights: tuple[tuple[float, ...], ...]
    sky: tuple[tuple[float, float, float], tuple[float, float, float]]
    backdrop: tuple[tuple[float, float, float], tuple[float, float, float]]
    camera: Camera
    seed: int


PEOPLE = {
    "portrait": Person(
        shape=Shape(
            jaw=5.4, cheekbone=0.7, chin=1.45, chin_y=-9.75, eye_width=1.62, eye_top=0.51, eye_bottom=0.57,
            upper_lip=0.84, lower_lip=1.06, eye_tilt=0.34, smile=0.3,
        ),
        paint=Paint(
            skin=(0.56, 0.335, 0.225), flush=(0.56, 0.2, 0.135), lip=(0.47, 0.14, 0.12), iris=(0.055, 0.10, 0.065),
            iris_inner=(0.2, 0.11, 0.035), hair=(0.085, 0.036, 0.016), cloth=(0.11, 0.17, 0.19),
            freckles=0.4, stubble=0.0, gloss=0.75, brow=0.5,
        ),
        cut=Haircut(strands=52000, long=True, length=36.0, parting=-1.6, volume=1.2, wave=0.75, width=0.02, grey=0.0),
        hairline=((0, 6.9), (22, 6.5), (42, 4.6), (60, 1.8), (76, -0.6), (90, 1.8), (110, -2), (140, -6.5), (180, -7)),
        lashes=1.0,
        lights=(
            (-45, 54, 78, 26, 1.45, 1.33, 1.2),
            (58, 36, -36, 18, 1.3, 1.25, 1.35),
            (62, 2, 70, 40, 0.24, 0.26, 0.32),
        ),
        sky=((0.34, 0.37, 0.41), (0.25, 0.2, 0.175)),
        backdrop=((0.33, 0.25, 0.19), (0.09, 0.062, 0.05)),
        camera=Camera(),
        seed=11,
    ),
    "performer": Person(
        shape=Shape(
            skull=7.3, jaw=6.2, cheekbone=0.95, chin=2.4, chin_y=-10.2, brow=1.05, nose_width=1.55, nose_tip=0.95,
            nose_y=-4.0, bridge=0.85, bridge_z=4.7, mouth_y=-6.95, mouth_width=2.7, upper_lip=0.72, lower_lip=0.95,
            lip_out=0.42, eye_width=1.52, eye_top=0.42, eye_bottom=0.5, hood=0.9, age=0.6, ear=0.2, neck=5.3,
            shoulder=16.2, smile=0.2, rise=0.7, collar=1.0,
        ),
        paint=Paint(
            skin=(0.19, 0.088, 0.048), flush=(0.22, 0.078, 0.044), lip=(0.17, 0.06, 0.046), iris=(0.06, 0.03, 0.014),
            iris_inner=(0.11, 0.055, 0.02), hair=(0.02, 0.017, 0.016), cloth=(0.105, 0.02, 0.03),
            freckles=0.0, stubble=0.45, gloss=0.75, brow=0.6,
        ),
        cut=Haircut(strands=60000, long=False, length=1.5, parting=2.0, volume=0.0, wave=0.5, width=0.022, grey=0.32),
        hairline=((0, 7.2), (22, 7.3), (38, 6.2), (55, 4.4), (68, 3.6), (78, -0.8), (92, 1.8), (112, -2), (140, -6.5),
            (180, -7)),
        lashes=0.7,
        lights=(
            (-48, 52, 76, 26, 2.0, 1.85, 1.7),
            (58, 34, -36, 18, 1.7, 1.8, 2.1),
            (62, 2, 70, 40, 0.4, 0.45, 0.55),
        ),
        sky=((0.44, 0.48, 0.54), (0.34, 0.29, 0.26)),
        backdrop=((0.16, 0.21, 0.25), (0.035, 0.05, 0.065)),
        camera=Camera(),
        seed=23,
    ),
}  # fmt: skip


def backdrop(height: int, width: int, person: Person) -> Floats:
    """Return a backdrop (H, W, 3) that is lit from one side, with out-of-focus discs of light."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = (x + 0.5 - width / 2) / height, (y + 0.5) / height - 0.5
    lit, shade = (np.array(c, np.float32) for c in person.backdrop)
    glow = np.exp(-((x + 0.18) ** 2 + (y + 0.12) ** 2) / 0.22)[..., None]
    image: Floats = (shade + (lit - shade) * glow).astype(np.float32)
    rng = np.random.default_rng(person.seed)
    for _ in range(14):
        cx, cy, r = rng.uniform(-0.75, 0.75), rng.uniform(-0.55, 0.2), rng.uniform(0.05, 0.12)
        gap = np.hypot(x - cx, y - cy)
        disc = 1.0 / (1.0 + np.exp(np.clip((gap - r) / 0.006, -60, 60)))
        image += (disc * rng.uniform(0.02, 0.07))[..., None] * (lit + 0.1)
    return image


def tone_map(image: Floats) -> NDArray[np.uint8]:
    """Return linear light as a picture: a soft vignette, Narkowicz's fit of the ACES curve, sRGB, dithered."""
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    away = ((x + 0.5 - width / 2) ** 2 + (y + 0.5 - height / 2) ** 2) / (0.25 * (width**2 + height**2))
    v = image * (0.72 * (1.0 - 0.35 * away**1.5))[..., None]
    v = np.clip(v * (2.51 * v + 0.03) / (v * (2.43 * v + 0.59) + 0.14), 0.0, 1.0)
    srgb = np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055)
    grain = np.random.default_rng(1).uniform(0.0, 1.0, (height, width, 1))
    return np.clip(srgb * 255.0 + grain, 0.0, 255.0).astype(np.uint8)


def opacity(person: Person, hair: Strands, texels: int) -> tuple[Floats, Floats]:
    """Return opacity maps and frames of the hair for each light and, last, the sky."""
    places = [lamp[:3] for lamp in person.lights] + [(-10.0, 70.0, 60.0)]
    frames = np.stack([light_frame(place, 30.0) for place in places])
    maps = np.stack([opacity_layers(hair.points, hair.width, frame, texels, LAYERS) for frame in frames])
    return maps, frames


def render(person: Person, width: int, height: int, samples: int, density: float = 1.0) -> NDArray[np.uint8]:
    """Return the picture of a modelled person, (height, width, 3) uint8.

    Each pixel is the mean of ``samples`` by ``samples``; ``density`` scales the number of hairs.
    """
    shape, camera, seed = person.shape, person.camera, person.seed
    line = np.array(person.hairline, np.float32)
    cut = person.cut._replace(strands=int(person.cut.strands * density), width=person.cut.width / density**0.5)
    hair = grow_hair(cut, line, person.paint.hair, shape, seed)
    details = grow_details(person.paint.hair, cut.grey * 0.7, person.lashes, shape, seed, density)
    lights, sky = np.array(person.lights, np.float32), np.array(person.sky, np.float32)
    maps, frames = opacity(person, hair, 256)
    tall, wide = height * samples, width * samples
    surface = visible_surface(tall, wide, camera, shape)
    irradiance, visible = light(surface.position, surface.normal, surface.material, lights, sky, maps, frames, shape)
    irradiance = scatter(irradiance, surface.position, surface.material, tall / camera.span)
    colour = paint(
        surface.position,
        surface.normal,
        surface.material,
        irradiance,
        visible,
        lights,
        line,
        camera,
        shape,
        *pack(person.paint),
    )
    empty = surface.material == 0
    image = np.where(empty[..., None], backdrop(tall, wide, person), colour).astype(np.float32)
    depth = np.where(empty, np.float32(-1e6), surface.position[..., 2]).astype(np.float32)
    cover = np.zeros_like(depth)
    for strands in [hair, *details]:
        glow = shade_strands(strands.points, strands.colour, strands.gloss, lights, sky, maps, frames, camera, shape)
        draw_strands(image, cover, depth, strands, glow, camera)
    image = image.reshape(height, samples, width, samples, 3).mean((1, 3))
    return tone_map(image)


app = new_app()


class Name(StrEnum):
    """The pictures that can be rendered."""

    PORTRAIT = "portrait"
    PERFORMER = "performer"


@app.command()
def render_command(
    out: Annotated[Path, typer.Option(help="The folder that the pictures are written to.")] = ASSETS,
    quick: Annotated[bool, typer.Option("--quick", help="Render a small, coarse preview.")] = False,
    only: Annotated[Name | None, typer.Option(help="Render one of the two.")] = None,
) -> None:
    """Render the two pictures that come with the program."""
    out.mkdir(parents=True, exist_ok=True)
    width, height = (SIZE[0] // 2, SIZE[1] // 2) if quick else SIZE
    for name in [only] if only else list(Name):
        picture = render(PEOPLE[name], width, height, 1 if quick else 2, 0.4 if quick else 1.0)
        path = out / f"{name}.png"
        Pillow.fromarray(picture).save(path, optimize=True)
        print(f"{path}: {width}x{height}, {path.stat().st_size // 1024} KiB")


def main(arguments: list[str] | None = None, prog: str = "python -m tools.render_assets") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
