"""The card of the refiner's weights: how they were trained, how good they are on people not seen, and their limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.refiner_training.evaluation import CASES, METHODS, REGIONS

_LIMITS = """
## Limits

Trained on talking faces that look at the camera: large turns, children and very old people are rare, and nearly half of
the people are themselves synthetic. What is made up, the skin of a lid and its lashes, is likely and not the portrait's
own; the lashes of a shut lid come out softer than real ones. Where the transfer of the expression has put a lid in the
wrong place, no network corrects it. Not to be used to make real people appear to do what they did not, nor to judge
whether eyes are shut: the pictures are no measurement.

## Data

| clips | source (licence) |
| --- | --- |
"""
"""What follows the figures."""


def card_of(stated: Mapping[str, Any], figures: Mapping[str, Any], clips: int) -> str:
    """Return the card, Markdown.

    ``stated``: what stands beside the weights, see ``engines.networks.refiner_weights.write``; ``figures``: those of
    ``tools.eval_refiner`` on ``clips`` clips of people who were not trained on.
    """
    recipe = stated.get("recipe", {})
    trained = ", ".join(f"{name} {value}" for name, value in recipe.items() if name != "data")
    head = f"""\
# The refiner's networks

`engines/weights/refiner.safetensors` (sha256 {stated["sha256"]}), read by `engines/networks/refiner_weights.py`: small
U-Nets that repair the mesh generator's frames; `engines/networks/refiner.py` describes them. Made by
`python -m tools.train_refiner`; MIT, as reenact itself. No picture is in the file.

Recipe: {trained or "not stated"}.

## Figures

`python -m tools.eval_refiner` on {clips} clips of people who were not trained on: L1 of 0 to 255, and in brackets the
sharpness over the real frame's. `warp` is the generator without the networks; a method that no network of the file
refines is as the one beside it.

| region | case | pairs | {" | ".join(METHODS)} |
| --- | --- | --- | {" | ".join("---" for _ in METHODS)} |
"""
    rows = []
    for region in REGIONS:
        for case in CASES:
            cell = figures[region][case]
            if cell["warp"]["n"]:
                values = " | ".join(f"{cell[m]['l1']:.1f} ({cell[m]['sharpness']:.2f})" for m in METHODS)
                rows.append(f"| {region} | {case} | {cell['warp']['n']} | {values} |\n")
    jitter = figures["jitter"]
    values = " | ".join("" if jitter[m] is None else f"{jitter[m]:.2f}" for m in METHODS)
    rows.append(f"| jitter | | | {values} |\n")
    data = "".join(f"| {count} | {source} |\n" for source, count in recipe.get("data", {}).items())
    return head + "".join(rows) + _LIMITS + data
