"""Measure the refiner against real frames: one frame of a clip is the portrait, others of it are the truth.

python -m tools.eval_refiner --clips DIR --json OUT.json
python -m tools.eval_refiner --clips DIR --json OUT.json --sheet OUT.png --weights DIR

The JSON is {REGION: {CASE: {METHOD: {"n", "l1", "psnr", "ssim", "sharpness"}}}, "jitter": {METHOD: value}}. Regions:
mouth_inside, lips (with the inside), eyelid, eye, face. Cases, of the mouth or of the eyes: opening (from shut),
closing (from open), other. Methods: copy (the still portrait), warp (painted mouth), refined (mouth made up),
driver_raw, driver_ratio (matched in colour by the cheeks) and driver (the same, refined). l1 is of 0 to 255, psnr in
dB, sharpness the root mean square of the Laplacian over the real frame's, jitter the deviation under landmark noise of
0.25 px, in grey levels. Figures without pairs are null.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from engines.errors import ReenactError, UsageError
from engines.mesh.refiner import NetRefiner, open_networks
from engines.networks import refiner_weights
from tools.refiner_training.card import card_of
from tools.refiner_training.clips import clips_in
from tools.refiner_training.evaluation import CASES, METHODS, REGIONS, evaluate
from tools.refiner_training.sheet import write_pairs
from tools.support.command import new_app, run_app

app = new_app()


@app.command()
def eval_command(
    clips: Annotated[Path, typer.Option(help="folder of clips, or with a folder clips/")],
    json_: Annotated[Path | None, typer.Option("--json", help="file to write the figures to")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="picture to write: portrait, truth and methods side by side")
    ] = None,
    card: Annotated[Path | None, typer.Option(help="model card of the weights to write (Markdown)")] = None,
    weights: Annotated[Path | None, typer.Option(help="folder of the weights; those that ship by default")] = None,
    clip: Annotated[list[str] | None, typer.Option(help="name of a clip, all by default; repeatable")] = None,
    frames: Annotated[int, typer.Option(min=1, help="pairs of each clip")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="seed of all random numbers")] = 0,
) -> None:
    """Measure the refiner against real frames."""
    found = [each for each in (clips_in(clips) if clips.is_dir() else []) if not clip or each.name in clip]
    if not found:
        raise UsageError("clips-missing", f"no clips in {clips}", "a folder with video files", "give another folder")
    console = Console(stderr=True)
    nets = _open(weights or refiner_weights.FOLDER, console)
    measured = evaluate(found, nets, frames, seed, console)
    if nets is not None:
        nets.close()
    figures = measured.to_dict()
    if json_ is not None:
        json_.parent.mkdir(parents=True, exist_ok=True)
        json_.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if sheet is not None:
        write_pairs(sheet, measured.rows)
    if card is not None:
        stated = refiner_weights.stated(weights or refiner_weights.FOLDER)
        card.write_text(card_of(stated, figures, len(found)), encoding="utf-8")
    _print(figures)


def _open(folder: Path, console: Console) -> NetRefiner | None:
    """Return the refiner, or None and say why: then the refined methods are as the ones that they refine."""
    try:
        return NetRefiner(open_networks(folder))
    except ReenactError as error:
        console.print(f"nothing is refined: {error}", highlight=False)
        return None


def _print(figures: dict[str, Any]) -> None:
    table = Table("region", "case", "n", *METHODS, title="L1, 0 to 255 (sharpness over the real frame's)")
    for region in REGIONS:
        for case in CASES:
            row = figures[region][case]
            if row["warp"]["n"]:
                cells = [f"{row[m]['l1']:.1f} ({row[m]['sharpness']:.2f})" for m in METHODS]
                table.add_row(region, case, str(row["warp"]["n"]), *cells)
    jitter = figures["jitter"]
    table.add_row("jitter", "", "", *("" if jitter[m] is None else f"{jitter[m]:.2f}" for m in METHODS))
    Console(width=140).print(table)


def main(arguments: list[str] | None = None, prog: str = "python -m tools.eval_refiner") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
