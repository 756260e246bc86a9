"""Drawn people: anime with outlines, and flat illustrations. Shapes and tones come from the rendered head."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import Floats
from tools.assets.face_model import CLOTH, EYE, GLASSES, MOUTH, SKIN, TEETH, Surface
from tools.assets.hair import Anchors, lid_margins
from tools.assets.images import blurred, draw_line, fill, resampled
from tools.assets.person import Layers, Sitter
from tools.assets.scene import posed
from tools.assets.shade import EYE_CENTRE
from tools.assets.skin import BROW, RGB, SCALE, beard_area, chart, smooth_curve


class Palette(NamedTuple):
    """The colours of a drawing (sRGB, 0 to 1), light and shade; ``outline`` is the width of its lines, 0 for none."""

    skin: tuple[RGB, RGB]
    hair: tuple[RGB, RGB, RGB]
    cloth: tuple[RGB, RGB]
    iris: tuple[RGB, RGB]
    lips: RGB
    line: RGB
    wall: tuple[RGB, RGB]
    blush: float = 0.35
    outline: float = 2.2
    smooth: float = 2.0
    eye: float = 1.0
    """How much larger than life the irises are."""


def enlarge_eyes(surface: Surface, amount: float) -> Surface:
    """Return a face with larger eyes, a smaller nose and mouth, and a narrower chin; ``amount`` from 0 to 1."""
    rest, points = surface.rest, surface.points.copy()
    for side in (1, -1):
        offset = rest[:, :2] - np.array([side * EYE_CENTRE[0], EYE_CENTRE[1]])
        away = np.hypot(offset[:, 0], offset[:, 1] * 1.1)
        near = np.clip((3.9 - away) / 2.0, 0, 1) * (rest[:, 2] > 4)
        near = near * near * (3 - 2 * near) * amount
        here = points[surface.kind == EYE]
        centre = here[side * here[:, 0] > 0].mean(0)
        for axis, scale in ((0, 0.42), (1, 0.95), (2, 0.15)):
            points[:, axis] += near * scale * (points[:, axis] - centre[axis])
    nose = np.exp(-((rest[:, 0] / 1.9) ** 2) - ((rest[:, 1] - 0.2) / 2.0) ** 2) * (rest[:, 2] > 9) * amount
    points[:, 2] -= 1.0 * nose
    points[:, 0] *= 1 - 0.40 * nose
    points[:, 1] += 0.25 * nose
    mouth = np.exp(-((rest[:, 0] / 3.2) ** 2) - ((rest[:, 1] + 3.4) / 1.6) ** 2) * (rest[:, 2] > 0) * amount
    points[:, 0] *= 1 - 0.20 * mouth
    chin = np.clip((0.5 - rest[:, 1]) / 7.5, 0, 1) * np.clip((rest[:, 2] + 2) / 6, 0, 1) * (rest[:, 1] > -11) * amount
    points[:, 0] *= 1 - 0.20 * chin
    return surface._replace(points=points.astype(np.float32))


class _Pen:
    """Draws lines that taper along curves of the head, on a canvas of the samples' size."""

    def __init__(self, sitter: Sitter, points: Floats, turn: tuple[float, float, float], canvas: Floats) -> None:
        self.sitter, self.canvas = sitter, canvas
        self.points = posed(points, sitter.mesh.follow, turn)
        self.scale = canvas.shape[0] / sitter.person.camera.span

    def at(self, places: Floats) -> Floats:
        """Return the pixels (N, 2) of points (N, 3)."""
        return self.sitter.person.camera.project(places, *self.canvas.shape[:2])[:, :2]

    def on_face(self, rest: Floats) -> Floats:
        """Return the pixels of places of the mean face, after they moved with the face."""
        anchors = Anchors(self.sitter.mesh, rest.astype(np.float32))
        moved = (self.points[anchors.vertices] * anchors.weight).sum(1) + anchors.offset
        return self.at(moved.astype(np.float32))

    def line(self, pixels: Floats, widths: Floats, colour: RGB, strength: float = 1.0) -> None:
        """Draw a line through pixels (N, 2) of varying width (N,), in cm."""
        mask = np.zeros(self.canvas.shape[:2], np.float32)
        curve = smooth_curve(np.concatenate([pixels, widths[:, None] * self.scale], 1), 60)
        for a, b in pairwise(curve):
            draw_line(mask, np.stack([a[:2], b[:2]]), 1.0, float(a[2] + b[2]) / 2)
        self.canvas += (np.array(colour, np.float32) - self.canvas) * (mask * strength)[..., None]

    def fill(self, pixels: Floats, colour: RGB, strength: float = 1.0, blur: float = 0.0) -> None:
        """Fill the outline through pixels (N, 2)."""
        mask = np.zeros(self.canvas.shape[:2], np.float32)
        fill(mask, pixels)
        if blur:
            mask = blurred(mask, blur * self.scale)
        self.canvas += (np.array(colour, np.float32) - self.canvas) * (mask * strength)[..., None]


def _step(low: float, high: float, x: Floats) -> Floats:
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _tones(light: Floats, on: Floats, where: float, soft: float, blur: float) -> Floats:
    """Return how much of each pixel is in the light, (H, W): a soft threshold of smoothed light on a surface."""
    weight = blurred(on.astype(np.float32), blur) + 1e-4
    smooth = blurred(light * on, blur) / weight
    return _step(where - soft, where + soft, smooth)


def _mixed(pair: tuple[RGB, RGB], amount: Floats) -> Floats:
    """Return colours (H, W, 3): the first of a pair where ``amount`` is 1, the second where it is 0."""
    light, shade = (np.array(c, np.float32) for c in pair)
    return np.asarray(shade + (light - shade) * amount[..., None], np.float32)


def _eyes(rest: Floats, on: Floats, canvas: Floats, palette: Palette) -> None:
    """Paint whites, irises, pupils and highlights where the eyeballs are seen."""
    at = rest[on]
    side = np.sign(at[:, 0])
    x, y = side * (np.abs(at[:, 0]) - EYE_CENTRE[0]), at[:, 1] - EYE_CENTRE[1]
    size = 0.72 * palette.eye
    away = np.hypot(x, y) / size
    colour = np.array([0.99, 0.985, 0.98]) * (1 - 0.16 * _step(0.1, 0.75, y))[:, None]
    light, dark = (np.array(c) for c in palette.iris)
    iris = light + (dark - light) * _step(-0.55, 0.75, y / size)[:, None]
    iris = iris * (1 - 0.45 * _step(0.78, 0.97, away))[:, None]
    iris = iris + (dark * 0.35 - iris) * _step(0.46, 0.40, away)[:, None]
    colour = colour + (iris - colour) * _step(1.02, 0.97, away)[:, None]
    for cx, cy, radius, strength in ((-0.34, 0.36, 0.27, 1.0), (0.36, -0.42, 0.14, 0.8)):
        glint = _step(radius + 0.03, radius - 0.03, np.hypot(x / size - cx, y / size - cy)) * strength
        colour = colour + (1 - colour) * glint[:, None]
    canvas[on] = colour


def illustrate(sitter: Sitter, layers: Layers, surface: Surface, palette: Palette) -> Floats:
    """Return a drawing (H, W, 3), sRGB, 0 to 1, at the size of the samples."""
    kind, buffers = layers.drawn.buffers.kind, layers.drawn.buffers
    scale = kind.shape[0] / sitter.person.camera.span
    wall = np.linspace(0, 1, kind.shape[0], dtype=np.float32)[:, None] * np.ones(kind.shape, np.float32)
    canvas = _mixed(palette.wall, 1 - wall)
    light = buffers.light.mean(-1)
    blur = 0.12 * palette.smooth * scale
    skin = (kind == SKIN).astype(np.float32)
    level = float(np.percentile(light[kind == SKIN], 62))
    lit = _tones(light, skin, 0.62 * level, 0.05 * level, blur)
    lit = lit * (0.9 + 0.1 * _tones(light, skin, 1.0 * level, 0.1 * level, 3 * blur))
    on = kind == SKIN
    canvas[on] = _mixed(palette.skin, lit)[on]
    cloth = kind == CLOTH
    level = float(np.percentile(light[cloth], 60))
    canvas[cloth] = _mixed(palette.cloth, _tones(light, cloth, 0.72 * level, 0.06 * level, 2 * blur))[cloth]
    canvas[(kind == MOUTH) | (kind == MOUTH + 1)] = np.array(palette.line) * 0.8
    canvas[kind == TEETH] = 0.97
    _eyes(buffers.rest, kind == EYE, canvas, palette)
    _beard(sitter, canvas, on, buffers.rest, palette)
    pen = _Pen(sitter, surface.points, sitter.person.turn, canvas)
    _features(pen, palette)
    if palette.outline:
        _outlines(canvas, kind, buffers.depth, palette)
    _hair(canvas, layers, palette, scale)
    rims = kind == GLASSES
    if rims.any():
        canvas[rims] = np.array(palette.line, np.float32)
    return np.asarray(np.clip(canvas, 0, 1), np.float32)


def _beard(sitter: Sitter, canvas: Floats, on: Floats, rest: Floats, palette: Palette) -> None:
    if sitter.person.beard is None:
        return
    at = chart(rest)
    area = blurred(beard_area(), 0.25 * SCALE)
    amount = resampled(area, at[..., 0], at[..., 1]) * on
    detail = resampled(sitter.look.maps.detail[..., 3].copy(), at[..., 0], at[..., 1])
    amount = _step(0.30, 0.38, amount) * (1 - _step(0.3, 0.6, detail))
    canvas += (np.array(palette.hair[1], np.float32) - canvas) * amount[..., None]


def _features(pen: _Pen, palette: Palette) -> None:
    """Draw blush, nose, lips, lids and brows."""
    sitter = pen.sitter
    for side in (1, -1):
        angle = np.linspace(0, 2 * np.pi, 40)
        centre = pen.on_face(np.array([[side * 4.6, 0.6, 9.0]]))[0]
        spot = centre + np.stack([np.cos(angle) * 1.5, np.sin(angle) * 0.9], -1) * pen.scale
        pen.fill(spot.astype(np.float32), (0.95, 0.45, 0.42), palette.blush, 0.55)
    seam = np.array(
        [[-2.2, -3.48, 10.2], [-1.1, -3.36, 11.1], [0, -3.38, 11.3], [1.1, -3.36, 11.1], [2.2, -3.48, 10.2]]
    )
    lower = np.array(
        [[1.5, -4.02, 10.9], [0.8, -4.35, 11.3], [0, -4.45, 11.5], [-0.8, -4.35, 11.3], [-1.5, -4.02, 10.9]]
    )
    upper = np.array([[-1.6, -2.85, 11.1], [-0.7, -2.5, 11.6], [0, -2.62, 11.7], [0.7, -2.5, 11.6], [1.6, -2.85, 11.1]])
    lips = pen.on_face(np.concatenate([seam[:1], upper, seam[-1:], lower]))
    pen.fill(smooth_curve(lips, 120).astype(np.float32), palette.lips, 0.8 if not palette.outline else 0.45, 0.05)
    pen.line(pen.on_face(seam), np.array([0.05, 0.09, 0.12, 0.09, 0.05]), palette.line, 0.9)
    shade = np.array(palette.skin[1]) * 0.8
    nose = pen.on_face(np.array([[-0.75, -0.95, 11.6], [-0.2, -1.05, 12.2], [0.5, -0.98, 12.0]]))
    pen.line(nose, np.array([0.04, 0.12, 0.03]), (float(shade[0]), float(shade[1]), float(shade[2])), 0.9)
    for number, margin in enumerate(lid_margins(sitter.mesh)):
        pixels = pen.at(pen.points[margin])
        along = np.linspace(0, 1, len(pixels))
        if number % 2 == 0:
            pen.line(pixels, 0.10 + 0.20 * np.sin(np.pi * np.clip(along * 0.9 + 0.1, 0, 1)) ** 0.6, palette.line)
            tail = pixels[-1] + np.array([[0, 0], [0.35 * (1 if number == 0 else -1), -0.16]]) * pen.scale
            pen.line(tail.astype(np.float32), np.array([0.22, 0.05]), palette.line)
        else:
            pen.line(pixels, 0.02 + 0.05 * np.clip(along - 0.35, 0, 1), palette.line, 0.8)
    for side in (1, -1):
        curve = smooth_curve(np.array(BROW), 9) * np.array([side, 1, 1])
        widths = sitter.person.skin.brow_width * np.array([0.5, 0.75, 0.85, 0.8, 0.7, 0.6, 0.45, 0.3, 0.12])
        pen.line(pen.on_face(curve), widths, palette.hair[1] if sum(palette.hair[1]) < 1.6 else palette.line, 0.95)


def _outlines(canvas: Floats, kind: NDArray[np.uint8], depth: Floats, palette: Palette) -> None:
    """Draw lines where materials meet and where something lies far in front of what is behind it."""
    near = np.minimum(depth, 400).astype(np.float32)
    jump = cv2.dilate(near, np.ones((3, 3))) - cv2.erode(near, np.ones((3, 3)))
    parts = np.where((kind == CLOTH) | (kind == 0) | (kind == GLASSES), kind, 1).astype(np.float32)
    edge = (jump > 0.9) | (cv2.dilate(parts, np.ones((3, 3))) != cv2.erode(parts, np.ones((3, 3))))
    inside = cv2.erode(((kind == SKIN) | (kind == 0) | (kind == CLOTH)).astype(np.uint8), np.ones((9, 9)))
    mask = (edge & (inside > 0)).astype(np.float32)
    width = palette.outline * canvas.shape[0] / 960
    mask = _step(0.08, 0.3, blurred(mask, 0.7 * width))
    canvas += (np.array(palette.line, np.float32) - canvas) * (0.9 * mask)[..., None]


def _hair(canvas: Floats, layers: Layers, palette: Palette, scale: float) -> None:
    """Paint the mass of the hair in three tones; the brows and lashes, drawn before, are not in it."""
    blur = 0.045 * palette.smooth * scale
    amount = layers.mass
    mask = _step(0.42, 0.58, blurred(amount, blur))
    shine = layers.image.mean(-1) / np.maximum(layers.cover, 0.05)
    weight = blurred(amount, 1.6 * blur) + 1e-3
    shine = blurred(shine * amount, 1.6 * blur) / weight
    here = shine[mask > 0.5]
    dark, bright = (float(v) for v in np.percentile(here, (30, 88)))
    colour = _mixed(palette.hair[:2], _step(dark * 0.9, dark * 1.1, shine))
    colour += (np.array(palette.hair[2], np.float32) - colour) * _step(bright * 0.95, bright * 1.08, shine)[..., None]
    if palette.outline:
        width = palette.outline * canvas.shape[0] / 960
        rim = blurred(mask, 0.7 * width)
        line = _step(0.25, 0.6, 1 - np.abs(rim - 0.5) * 2)
        locks = blurred(shine, 0.8 * width) - blurred(shine, 3.5 * width)
        line = np.maximum(line, mask * _step(0.10, 0.25, -locks / max(bright, 1e-3)) * 0.8)
        line_colour = np.array(palette.line, np.float32)
        mask = np.maximum(mask, line)
        colour = colour + (line_colour - colour) * line[..., None]
    canvas += (colour - canvas) * mask[..., None]
