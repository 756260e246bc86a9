"""Train the refiner's networks from a folder of clips: see engines.networks.refiner.

python -m tools.train_refiner FACES
python -m tools.train_refiner FACES --net mouth --steps 12000 --work DIR --device cuda --batch 64

FACES has ``clips/`` and may have a ``manifest.csv`` with the columns file, identity, repo and licence. Samples are
made once and cached in the work folder, where checkpoints and sheets are kept too: the same command goes on where it
was stopped. At the end the weights that were best on people who are not trained on are written to ``--out``. Takes the
extra ``neural``.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from engines.backends.torch_backend import import_torch
from engines.cache_dirs import cache_home
from engines.errors import UsageError, one_of
from engines.networks.refiner_layout import NETS
from tools.refiner_training.clips import clips_in
from tools.refiner_training.samples import collect
from tools.refiner_training.training import Settings, train
from tools.refiner_training.weights import write_weights
from tools.support.command import new_app, run_app
from tools.train_expression import HELD_OUT

app = new_app()


@app.command()
def train_command(
    faces: Annotated[Path, typer.Argument(help="folder with clips/")],
    net: Annotated[list[str] | None, typer.Option(help="network to train, all by default; repeatable")] = None,
    steps: Annotated[int, typer.Option(min=1, help="steps of each network")] = 9000,
    batch: Annotated[int, typer.Option(min=2, help="samples of a step")] = 12,
    every: Annotated[int, typer.Option(min=1, help="steps between two measurements")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="seed of all random numbers")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    threads: Annotated[int, typer.Option(min=0, help="threads of the CPU; 0 for PyTorch's choice")] = 0,
    work: Annotated[Path | None, typer.Option(help="folder of samples and checkpoints; the cache by default")] = None,
    out: Annotated[Path | None, typer.Option(help="folder to write the weights to; nothing is written without")] = None,
    hold_out: Annotated[list[str] | None, typer.Option(help="clip to keep out of the training; repeatable")] = None,
) -> None:
    """Train the refiner's networks from a folder of clips."""
    nets = tuple(net or NETS)
    for name in nets:
        if name not in NETS:
            raise UsageError("network-unknown", f"the network {name!r}", one_of(NETS), f"choose {one_of(NETS)}")
    clips = clips_in(faces)
    if not clips:
        raise UsageError(
            "faces-missing", f"no clips in {faces}", "a folder with clips/", "give the folder with the faces"
        )
    torch = import_torch()
    if threads:
        torch.set_num_threads(threads)
    console = Console(stderr=True)
    folder = work or cache_home() / "training" / "refiner"
    names = tuple(hold_out or HELD_OUT)
    held = {clip.identity for clip in clips if clip.name in names}
    made = collect(clips, folder / "cache", console)
    for name in nets:
        samples = [(each.clip.identity in held, each.eyes if name == "eyes" else each.mouth) for each in made]
        settings = Settings(name, steps, batch, seed, every, device)
        kept_out = [each for is_held, each in samples if is_held]
        train(settings, [each for is_held, each in samples if not is_held], kept_out, folder / "run", console)
    if out is not None:
        trained = [each.clip for each in made if each.clip.identity not in held]
        recipe = {
            "networks": " and ".join(nets), "steps": steps, "batch": batch, "seed": seed,
            "people": len({clip.identity for clip in trained}), "people kept out": len(held),
            "data": dict(Counter(clip.licence for clip in trained)),
        }  # fmt: skip
        write_weights(folder / "run", nets, out, recipe)


def main(arguments: list[str] | None = None, prog: str = "python -m tools.train_refiner") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
