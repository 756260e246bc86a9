"""The inner loops that draw eyes and lids, compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from engines.face.opening import axis, look_up, opening_box, ramp, sample
from engines.jit import compiled

SHADOW_REACH, SHADOW_SHARE = 0.2, 0.5
"""How far down the shadow of the upper lid falls, in eye widths and as a share of the gap: the smaller one counts."""
BELOW_LASHES, LOWER_SKIN = 3.0, 0.07
"""How far below the line where closed lids meet the lower lid is drawn, as the mesh shows the squeezed eye there,
pixels, and how far below the portrait's lower lid its skin begins, in eye widths."""
DARK_LINE = 0.025
"""Half the width of the line between shut lids without lashes, in eye widths."""


@compiled(fastmath=True)
def draw_eye(
    out: Any, box: Any, white: Any, disc: Any, corner: Any, ends: Any, upper: Any, lower: Any, margin: Any,
    to_own: Any, gaze: Any, shadow: float, closure: float, moved: float, feather: float,
) -> None:  # fmt: skip
    """Draw the eyeball between the lids, blended over the mesh.

    out: (H, W, 3) uint8, written to within box: left, top, right, bottom, which lies in it, the last two exclusive.
    white: (h, w, 3) float32, the eyeball without iris; disc: (h, w, 4) float32, the iris and its opacity; corner: (2,)
    float32, the portrait pixel of their first one. ends, upper, lower: the opening, as in ``opening_box``; margin: (K,)
    float32, pixels below its upper edge that are left to the mesh, where lashes are. to_own: (2, 3)
    float32, output pixel to portrait pixel with the head's motion alone; gaze: (2,) float32, how far the iris moves
    there, pixels. shadow: the share of the light that the upper lid takes at its edge. closure: from 0, as in the
    portrait, to 1, closed. moved: from 0, as in the portrait, to 1, where the mesh shows an iris that is no longer
    there along the lids. feather: width of the soft edge, pixels.
    """
    left, top, right, bottom = opening_box(ends, upper, lower, box, feather)
    length, ux, uy = axis(ends)
    for y in range(top, bottom):
        for x in range(left, right):
            along = (ux * (x - ends[0]) + uy * (y - ends[1])) / length
            if along <= 0 or along >= 1:
                continue
            below = -uy * (x - ends[0]) + ux * (y - ends[1])
            from_top = below - look_up(upper, along)
            from_bottom = look_up(lower, along) - below
            if from_top <= 0 or from_bottom <= 0:
                continue
            # a slit is narrower than the feather, and must not show what the mesh squeezed into it
            gap = from_top + from_bottom
            soft = min(feather * (1 - 0.4 * moved), 0.35 * gap + 0.2)
            clear = max(min(look_up(margin, along), 0.4 * gap), (1 - moved) * 0.08 * gap)
            alpha = ramp((from_top - max(clear - 0.5 * soft, 0.0)) / soft)
            alpha *= ramp((from_bottom - (1 - moved) * min(0.05 * gap, 1.0)) / soft)
            # lashes cover the last slit, and corners are as narrow as the soft edges
            slit = 1 - ramp((gap / length - 0.03) / 0.09)
            alpha *= (1 - closure * slit) * ramp(9 * along) * ramp(9 - 9 * along)
            if alpha <= 0:
                continue
            px = to_own[0, 0] * x + to_own[0, 1] * y + to_own[0, 2] - corner[0]
            py = to_own[1, 0] * x + to_own[1, 1] * y + to_own[1, 2] - corner[1]
            iris = sample(disc, px - gaze[0], py - gaze[1], 3)
            light = 1 - shadow * (1 - ramp(from_top / min(SHADOW_REACH * length, SHADOW_SHARE * gap)))
            light *= 1 - 0.6 * closure * slit
            for c in range(3):
                value = sample(white, px, py, c)
                if iris > 0:
                    value += iris * (sample(disc, px - gaze[0], py - gaze[1], c) - value)
                value = min(value * light, 255.0)
                out[y, x, c] = np.uint8(out[y, x, c] + alpha * (value - out[y, x, c]) + 0.5)


@compiled(fastmath=True, inline="always")
def _lid_shares(above: float, part: float, fade: float, shut: float, reach: float, scale: float) -> tuple[Any, ...]:
    """Return the opacities of skin, lashes and lower lid at a place above (negative: below) the edge of a lid.

    above: pixels; part: from the fold, 0, to the edge, 1; reach: of the lashes, in pixels of the portrait, which is
    ``scale`` times as large; fade, shut: factors of all, and of what lies below the edge.
    """
    skin = fade * ramp(2.5 * part) * ramp(above + 0.5)
    line = fade * (1 - ramp((above * scale - reach) / max(0.5 * reach, 1.0)))
    under = 0.0
    if above < 0:
        under = fade * shut * ramp(BELOW_LASHES + above)
        line *= shut * ramp(1 + above / 1.3)
    return skin, line, under


@compiled(fastmath=True)
def draw_lid(
    out: Any, box: Any, image: Any, lid: Any, grain: Any, corner: Any, ends: Any, upper: Any, lower: Any, fold: Any,
    own_ends: Any, own_upper: Any, own_lower: Any, own_fold: Any, lash: Any, to_own: Any, closure: float, dark: float,
) -> None:  # fmt: skip
    """Draw the upper lid of an eye that shuts: its skin as far as it came down, and its lashes along its edge.

    The mesh stretches the little skin and the lashes above an open eye over the whole lid; here lashes and grain keep
    their size. image: (H, W, 3) uint8, the portrait; lid: (h, w, 3) uint8, its skin without detail, and grain: (h, w)
    float32, in grey levels, both from ``corner`` on. fold: the fold above the lid, as another edge; own_*: the
    same in the portrait. lash: (K,) float32, how far lashes reach up from the edge, pixels of the portrait. dark: the
    share of light that a line takes in the place of lashes, 0 if there are any. Others as in ``draw_eye``.
    """
    length, ux, uy = axis(ends)
    own_length, ox, oy = axis(own_ends)
    left, top, right, bottom = opening_box(ends, fold, lower, box, BELOW_LASHES + 1)
    scale, shown, shut = own_length / length, ramp(closure / 0.25), ramp((closure - 0.6) / 0.3)
    for y in range(top, bottom):
        for x in range(left, right):
            along = (ux * (x - ends[0]) + uy * (y - ends[1])) / length
            if along <= 0.0 or along >= 1.0:
                continue
            below = -uy * (x - ends[0]) + ux * (y - ends[1])
            first, last, crease = look_up(upper, along), look_up(lower, along), look_up(fold, along)
            # where lids meet, the upper one ends in the middle of what is left of the gap
            edge = first + shut * 0.5 * (last - first)
            above = edge - below
            if above < -BELOW_LASHES or below <= crease:
                continue
            part = min((below - crease) / max(edge - crease, 1.0), 1.0)
            fade, reach = shown * ramp(10 * along) * ramp(10 - 10 * along), look_up(lash, along)
            skin, line, under = _lid_shares(above, part, fade, shut, reach, scale)
            if skin <= 0 and line <= 0 and under <= 0:
                continue
            own_edge, own_crease = look_up(own_upper, along), look_up(own_fold, along)
            # skin is read from above the lashes, stretched; lashes are read as they are
            skin_at = own_crease + part * max(own_edge - reach - 1.0 - own_crease, 0.0)
            lash_at = own_edge - min(max(above * scale, 0.5), 2.0 * reach + 2.0)
            under_at = look_up(own_lower, along) + LOWER_SKIN * own_length - above * scale
            sx, sy = own_ends[0] + ox * along * own_length, own_ends[1] + oy * along * own_length
            px = to_own[0, 0] * x + to_own[0, 1] * y + to_own[0, 2] - corner[0]
            py = to_own[1, 0] * x + to_own[1, 1] * y + to_own[1, 2] - corner[1]
            light = 1 - dark * shut * fade * max(1 - abs(above) / (DARK_LINE * length + 0.7), 0.0)
            noise = grain[min(max(int(py), 0), grain.shape[0] - 1), min(max(int(px), 0), grain.shape[1] - 1)]
            for c in range(3):
                value = sample(lid, sx - oy * skin_at - corner[0], sy + ox * skin_at - corner[1], c)
                value = out[y, x, c] + skin * (value + noise - out[y, x, c])
                if under > 0:
                    value += under * (sample(image, sx - oy * under_at, sy + ox * under_at, c) - value)
                value += (dark == 0) * line * (sample(image, sx - oy * lash_at, sy + ox * lash_at, c) - value)
                out[y, x, c] = np.uint8(min(max(value * light, 0.0), 254.9) + 0.5)


@compiled()
def follow_eye(
    frame: Any, frame_px: Any, ends: Any, own_rotation: Any, own_scale: float, rotation: Any, origin: Any, scale: float,
    points: Any, rigid: Any, gaze: Any, to_own: Any, move: Any,
) -> None:  # fmt: skip
    """Compute the affine map from the output to the portrait that takes an eye's socket back to its place.

    frame: (3, 3) three points of the socket in the head frame; frame_px: (3, 2) the same in the portrait; ends: the
    corners of the eye; rotation, origin, scale: the pose of the frame, and own_* the portrait's; points, rigid: (N, 3)
    landmarks with and without expression; gaze: (2,) in face scales; to_own: (2, 3) and move: (2,), written to, see
    ``engines.eyes.eyes.EyeState``.
    """
    now = np.empty((3, 2))
    for k in range(2):
        # how far the expression alone moved the corners of the eye
        offset = 0.5 * (points[ends[0], k] - rigid[ends[0], k] + points[ends[1], k] - rigid[ends[1], k])
        for i in range(3):
            along = rotation[k, 0] * frame[i, 0] + rotation[k, 1] * frame[i, 1] + rotation[k, 2] * frame[i, 2]
            now[i, k] = scale * along + origin[k] + offset
        move[k] = own_scale * (own_rotation[k, 0] * gaze[0] + own_rotation[k, 1] * gaze[1])
    ax, ay = now[1, 0] - now[0, 0], now[1, 1] - now[0, 1]
    bx, by = now[2, 0] - now[0, 0], now[2, 1] - now[0, 1]
    area = ax * by - ay * bx
    if abs(area) < 1e-9:
        to_own[:] = 0
        return
    for k in range(2):
        first, second = frame_px[1, k] - frame_px[0, k], frame_px[2, k] - frame_px[0, k]
        across, down = (first * by - second * ay) / area, (second * ax - first * bx) / area
        to_own[k, 0], to_own[k, 1] = across, down
        to_own[k, 2] = frame_px[0, k] - across * now[0, 0] - down * now[0, 1]


@compiled()
def line_lid(fetch: Any, source: Any, lower: Any, lining: Any, fold: Any, closure: float) -> None:
    """Write where the lower lid and the lining of an eye are fetched to ``source``: see ``engines.eyes.eyes``.

    fetch, source: (N, 2) float32; lower, lining, fold: (7,) indices of points; closure: of the eye.
    """
    share = np.float32(min(max((closure - 0.6) / 0.3, 0.0), 1.0))
    for i in range(lower.shape[0]):
        for k in range(2):
            at = fetch[lower[i], k]
            source[lining[i], k] = at + share * (fetch[lining[i], k] - at)
            # landmarks of a lower lid lie a little inside the eye
            source[lower[i], k] = at + share * np.float32(0.35) * (fetch[fold[i], k] - at)


def compile_all() -> None:
    """Compile every function here, or load it from numba's cache, so that the first frame does not wait for it."""
    image, white, disc = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.float32), np.zeros((2, 2, 4), np.float32)
    edge, ends = np.zeros(2, np.float32), np.zeros(4, np.float32)
    two, to_own = np.zeros(2, np.float32), np.zeros((2, 3), np.float32)
    grain = np.zeros((2, 2), np.float32)
    box = (0, 0, 2, 2)
    draw_eye(image, box, white, disc, two, ends, edge, edge, edge, to_own, two, 0.1, 0.0, 0.0, 1.0)
    draw_lid(
        image, box, image, image, grain, two, ends, edge, edge, edge, ends, edge, edge, edge, edge, to_own, 0.1, 0.0
    )  # fmt: skip
    points, indices = np.zeros((3, 3), np.float32), np.zeros(2, np.intp)
    frame_px, move = np.zeros((3, 2), np.float32), np.zeros(2, np.float32)
    follow_eye(
        points, frame_px, indices, points, 1.0, points, points[0], 1.0, points, points, two, to_own.copy(), move
    )  # fmt: skip
    line_lid(frame_px, frame_px.copy(), indices, indices, indices, 0.0)
