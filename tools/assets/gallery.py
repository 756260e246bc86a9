"""The people of the gallery, and the style in which each is made."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tools.assets.hair import Haircut
from tools.assets.illustration import Palette, enlarge_eyes
from tools.assets.light import Lamp, Studio
from tools.assets.person import Garment, Person
from tools.assets.shade import Eyes
from tools.assets.skin import RGB, Skin
from tools.assets.statue import BRONZE, MARBLE, Statue

SMILE = {
    "mouthSmileLeft": 0.28,
    "mouthSmileRight": 0.28,
    "eyeSquintLeft": 0.16,
    "eyeSquintRight": 0.16,
    "cheekSquintLeft": 0.12,
    "cheekSquintRight": 0.12,
    "eyeBlinkLeft": 0.05,
    "eyeBlinkRight": 0.05,
}
CALM = {
    "mouthSmileLeft": 0.12,
    "mouthSmileRight": 0.12,
    "eyeSquintLeft": 0.12,
    "eyeSquintRight": 0.12,
    "eyeBlinkLeft": 0.06,
    "eyeBlinkRight": 0.06,
}

WINDOW = Studio(
    (Lamp(-52, 32, 15, (7.2, 6.9, 6.6)), Lamp(60, 8, 26, (0.55, 0.6, 0.75)), Lamp(150, 30, 18, (3.0, 3.1, 3.4))),
    (0.22, 0.25, 0.30),
    (0.15, 0.13, 0.115),
)
CANDLE = Studio(
    (Lamp(-48, 40, 13, (9.5, 8.0, 5.9)), Lamp(70, 5, 24, (0.35, 0.28, 0.22))),
    (0.085, 0.08, 0.085),
    (0.085, 0.06, 0.045),
)
EVENING = Studio(
    (Lamp(42, 30, 17, (6.4, 5.5, 4.6)), Lamp(-60, 12, 24, (0.8, 1.0, 1.4)), Lamp(-145, 25, 16, (5.0, 4.2, 3.4))),
    (0.26, 0.29, 0.36),
    (0.19, 0.16, 0.14),
)


MUSEUM = Studio(
    (Lamp(-48, 42, 15, (6.5, 6.2, 5.9)), Lamp(62, 10, 24, (0.9, 1.0, 1.2)), Lamp(150, 35, 18, (3.0, 3.1, 3.3))),
    (0.20, 0.22, 0.26),
    (0.12, 0.11, 0.10),
)


STYLES = {
    "photograph": "rendered",
    "oil": "oil on canvas",
    "watercolour": "watercolour",
    "charcoal": "charcoal and chalk",
    "marble": "marble",
    "bronze": "bronze",
    "anime": "anime",
    "illustration": "flat illustration",
}
"""The styles, and what they are called."""


class Picture(NamedTuple):
    """A picture of the gallery: who, in which style, on which background (its colours in the light and the shade)."""

    sitter: Person | Statue
    style: str
    wall: tuple[RGB, RGB]
    exposure: float = 0.8
    palette: Palette | None = None


GALLERY = {
    "clara": Picture(
        Person(
            {0: 1.25, 1: -0.8, 2: -0.6, 4: -0.6, 7: -0.9, 3: 0.4},
            Skin(
                (0.56, 0.365, 0.27),
                (0.60, 0.25, 0.18),
                (0.50, 0.17, 0.14),
                (0.14, 0.06, 0.028),
                freckles=0.5,
                shadow=0.12,
                seed=3,
            ),
            Haircut(
                "long",
                (0.15, 0.056, 0.022),
                length=27,
                parting=-1.7,
                wave=0.55,
                volume=0.5,
                strands=30000,
                width=0.02,
                seed=2,
            ),
            Garment("crew", (0.035, 0.085, 0.075), 0.3, 0.18, 0.9),
            Eyes((0.07, 0.11, 0.055), (0.20, 0.17, 0.055)),
            SMILE,
            (0.02, 0.10, 0.03),
            studio=WINDOW,
        ),
        "photograph",
        ((0.34, 0.30, 0.25), (0.10, 0.085, 0.07)),
    ),
    "amara": Picture(
        Person(
            {0: 0.9, 2: -1.5, 1: 0.2, 4: -0.5},
            Skin(
                (0.135, 0.062, 0.036),
                (0.155, 0.05, 0.032),
                (0.17, 0.05, 0.045),
                (0.008, 0.006, 0.005),
                brow_width=0.5,
                seed=5,
                lip_gloss=0.5,
            ),
            Haircut(
                "curls", (0.011, 0.009, 0.008), length=6.5, wave=0.33, strands=24000, width=0.026, seed=3, gloss=0.8
            ),
            Garment("wide", (0.42, 0.19, 0.03), 0.12, 0.2, 0.9),
            Eyes((0.03, 0.016, 0.009), (0.06, 0.03, 0.012)),
            SMILE,
            (-0.02, -0.08, -0.03),
            studio=EVENING,
        ),
        "photograph",
        ((0.30, 0.17, 0.12), (0.085, 0.045, 0.035)),
        0.95,
    ),
    "idris": Picture(
        Person(
            {0: -1.4, 1: -0.9, 4: 1.1, 3: -0.5},
            Skin(
                (0.33, 0.19, 0.125),
                (0.36, 0.125, 0.085),
                (0.31, 0.115, 0.095),
                (0.02, 0.014, 0.01),
                stubble=0.9,
                brow_width=0.7,
                age=0.25,
                seed=8,
            ),
            Haircut(
                "short",
                (0.014, 0.011, 0.009),
                length=3.6,
                parting=2.2,
                volume=0.7,
                strands=30000,
                width=0.022,
                seed=4,
                gloss=0.8,
            ),
            Garment("roll", (0.075, 0.085, 0.10), 0.35, 0.15),
            Eyes((0.055, 0.03, 0.014), (0.11, 0.06, 0.022)),
            CALM,
            (0.02, -0.12, 0.0),
            glasses="square",
        ),
        "photograph",
        ((0.24, 0.28, 0.33), (0.06, 0.075, 0.095)),
    ),
    "rosa": Picture(
        Person(
            {0: 1.1, 1: 0.3, 4: -0.4, 7: -0.8, 2: 0.4},
            Skin((0.55, 0.36, 0.26), (0.60, 0.21, 0.15), (0.52, 0.13, 0.11), (0.045, 0.025, 0.016), seed=12),
            Haircut("back", (0.035, 0.018, 0.011), strands=26000, width=0.022, volume=1.1, seed=5),
            Garment("wide", (0.16, 0.02, 0.018), 0.0, 0.35, 0.9),
            Eyes((0.06, 0.035, 0.016), (0.13, 0.075, 0.03)),
            CALM,
            (0.03, 0.22, 0.04),
            studio=CANDLE,
        ),
        "oil",
        ((0.085, 0.06, 0.035), (0.016, 0.012, 0.009)),
        0.9,
    ),
    "henrik": Picture(
        Person(
            {0: -1.0, 2: 1.0, 1: 0.5, 3: 0.6},
            Skin(
                (0.50, 0.32, 0.24),
                (0.56, 0.2, 0.15),
                (0.42, 0.17, 0.15),
                (0.3, 0.28, 0.26),
                age=1.0,
                brow_width=0.6,
                seed=15,
            ),
            Haircut(
                "short",
                (0.30, 0.29, 0.28),
                length=4.5,
                parting=3.0,
                volume=0.7,
                grey=0.8,
                strands=22000,
                width=0.022,
                recede=1.0,
                line=0.6,
                seed=6,
            ),
            Garment("roll", (0.03, 0.05, 0.085), 0.4, 0.2),
            Eyes((0.10, 0.15, 0.20), (0.17, 0.2, 0.2)),
            SMILE,
            (0.0, -0.16, -0.02),
            beard=Haircut("beard", (0.38, 0.36, 0.34), length=2.6, strands=15000, width=0.022, wave=0.12, grey=0.7),
            brow_grey=0.8,
            studio=WINDOW,
        ),
        "oil",
        ((0.16, 0.17, 0.13), (0.035, 0.038, 0.034)),
        0.85,
    ),
    "mei": Picture(
        Person(
            {0: 1.2, 4: -1.3, 1: 0.6, 6: -0.6},
            Skin(
                (0.58, 0.40, 0.29),
                (0.64, 0.26, 0.2),
                (0.56, 0.15, 0.14),
                (0.02, 0.015, 0.013),
                brow_width=0.42,
                seed=19,
            ),
            Haircut(
                "long",
                (0.013, 0.011, 0.011),
                length=16.5,
                parting=1.4,
                volume=0.45,
                strands=26000,
                width=0.022,
                seed=8,
                fringe=5.2,
            ),
            Garment("crew", (0.50, 0.33, 0.07), 0.0, 0.3, 0.88),
            Eyes((0.03, 0.018, 0.011), (0.07, 0.035, 0.015)),
            SMILE,
            (0.02, -0.15, 0.06),
        ),
        "watercolour",
        ((0.75, 0.78, 0.78), (0.6, 0.65, 0.68)),
        0.95,
    ),
    "tomas": Picture(
        Person(
            {0: -1.2, 1: -0.9, 3: 0.5, 4: 1.0},
            Skin(
                (0.48, 0.30, 0.22),
                (0.5, 0.2, 0.15),
                (0.4, 0.15, 0.13),
                (0.03, 0.02, 0.015),
                age=0.45,
                stubble=0.3,
                brow_width=0.6,
                seed=22,
            ),
            Haircut(
                "short", (0.03, 0.022, 0.017), length=6.0, parting=-2.0, volume=0.8, strands=26000, width=0.024, seed=9
            ),
            Garment("crew", (0.10, 0.10, 0.11), 0.0, 0.4),
            Eyes((0.05, 0.05, 0.05), (0.1, 0.1, 0.1)),
            CALM,
            (0.0, 0.2, 0.0),
            beard=Haircut("beard", (0.03, 0.022, 0.017), length=1.3, strands=15000, width=0.024, wave=0.08),
            studio=WINDOW,
        ),
        "charcoal",
        ((0.45, 0.45, 0.45), (0.3, 0.3, 0.3)),
        0.9,
    ),
    "nora": Picture(
        Person(
            {0: 0.7, 2: 0.9, 1: 0.4},
            Skin(
                (0.56, 0.39, 0.31),
                (0.6, 0.25, 0.2),
                (0.47, 0.19, 0.17),
                (0.32, 0.29, 0.27),
                age=1.0,
                brow_width=0.42,
                brow_amount=0.7,
                seed=25,
            ),
            Haircut(
                "long",
                (0.5, 0.49, 0.48),
                length=15.0,
                parting=2.4,
                volume=0.8,
                wave=0.5,
                grey=0.6,
                strands=26000,
                width=0.022,
                seed=10,
            ),
            Garment("roll", (0.16, 0.09, 0.20), 0.2, 0.2, 0.9),
            Eyes((0.09, 0.13, 0.17), (0.16, 0.19, 0.19)),
            {**SMILE, "mouthSmileLeft": 0.4, "mouthSmileRight": 0.4},
            (0.0, 0.14, -0.04),
            glasses="round",
            brow_grey=0.6,
        ),
        "watercolour",
        ((0.75, 0.78, 0.78), (0.6, 0.65, 0.68)),
        0.95,
    ),
    "livia": Picture(
        Statue({0: 1.0, 1: -0.4, 4: -0.6, 7: -0.8}, MARBLE, "waves", MUSEUM, CALM, (0.02, -0.16, 0.03), seed=4),
        "marble",
        ((0.20, 0.15, 0.12), (0.045, 0.035, 0.03)),
        0.62,
    ),
    "marcus": Picture(
        Statue({0: -1.1, 1: -0.8, 4: 1.2, 2: 0.4}, BRONZE, "curls", MUSEUM, CALM, (0.0, 0.18, 0.0), beard=0.35, seed=6),
        "bronze",
        ((0.26, 0.27, 0.25), (0.07, 0.075, 0.07)),
        1.0,
    ),
    "yuki": Picture(
        Person(
            {0: 1.3, 4: -1.0, 1: -0.3},
            Skin((0.6, 0.42, 0.34), (0.62, 0.3, 0.25), (0.6, 0.2, 0.2), (0.05, 0.05, 0.1), brow_width=0.3, seed=31),
            Haircut(
                "long",
                (0.06, 0.09, 0.22),
                length=22,
                parting=0.3,
                volume=0.9,
                strands=22000,
                width=0.03,
                seed=11,
                fringe=5.0,
                locks=420,
                cling=0.8,
            ),
            Garment("crew", (0.3, 0.3, 0.5), 0.0, 0.3, 0.82),
            face={"mouthSmileLeft": 0.4, "mouthSmileRight": 0.4},
            turn=(0.0, -0.12, 0.05),
            studio=EVENING,
            reshape=partial(enlarge_eyes, amount=1.0),
        ),
        "anime",
        ((0.75, 0.78, 0.78), (0.6, 0.65, 0.68)),
        0.9,
        Palette(
            ((1.0, 0.90, 0.85), (0.96, 0.76, 0.72)),
            ((0.33, 0.42, 0.68), (0.22, 0.27, 0.50), (0.58, 0.70, 0.90)),
            ((0.97, 0.96, 0.98), (0.80, 0.80, 0.90)),
            ((0.42, 0.78, 0.80), (0.12, 0.26, 0.46)),
            (0.93, 0.55, 0.55),
            (0.16, 0.13, 0.22),
            ((0.99, 0.86, 0.82), (0.80, 0.84, 0.96)),
            eye=1.12,
        ),
    ),
    "otto": Picture(
        Person(
            {0: -0.7, 1: -0.6, 4: 0.5},
            Skin((0.6, 0.42, 0.34), (0.62, 0.3, 0.25), (0.5, 0.2, 0.2), (0.1, 0.05, 0.03), brow_width=0.6, seed=33),
            Haircut(
                "short",
                (0.12, 0.06, 0.03),
                length=5.0,
                parting=-2.4,
                volume=0.7,
                strands=24000,
                width=0.03,
                seed=12,
                locks=200,
            ),
            Garment("roll", (0.3, 0.3, 0.5), 0.0, 0.2, 0.95),
            face=SMILE,
            turn=(0.0, 0.12, 0.0),
            glasses="round",
            beard=Haircut("beard", (0.12, 0.06, 0.03), length=1.0, strands=9000, width=0.03),
            reshape=partial(enlarge_eyes, amount=0.3),
        ),
        "illustration",
        ((0.75, 0.78, 0.78), (0.6, 0.65, 0.68)),
        0.9,
        Palette(
            ((0.96, 0.76, 0.64), (0.88, 0.62, 0.52)),
            ((0.56, 0.25, 0.16), (0.42, 0.18, 0.13), (0.66, 0.33, 0.20)),
            ((0.16, 0.36, 0.42), (0.11, 0.27, 0.34)),
            ((0.30, 0.45, 0.45), (0.12, 0.22, 0.24)),
            (0.80, 0.42, 0.38),
            (0.14, 0.12, 0.18),
            ((0.98, 0.80, 0.46), (0.97, 0.70, 0.40)),
            blush=0.25,
            outline=0.0,
            smooth=4.0,
        ),
    ),
    "leo": Picture(
        Person(
            {0: 2.1, 1: 0.5, 4: -0.4, 7: -0.5},
            Skin(
                (0.56, 0.36, 0.26), (0.62, 0.22, 0.16), (0.52, 0.17, 0.14), (0.1, 0.055, 0.03), freckles=0.35, seed=41
            ),
            Haircut(
                "short", (0.13, 0.07, 0.03), length=5.5, parting=-2.0, volume=0.8, strands=26000, width=0.024, seed=14
            ),
            Garment("crew", (0.05, 0.14, 0.22), 0.0, 0.3, 0.78),
            Eyes((0.07, 0.10, 0.13), (0.15, 0.17, 0.16)),
            SMILE,
            (0.0, 0.12, 0.04),
            studio=WINDOW,
        ),
        "oil",
        ((0.30, 0.20, 0.10), (0.09, 0.06, 0.035)),
        0.85,
    ),
}
