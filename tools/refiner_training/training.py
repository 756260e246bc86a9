"""Trains one network of the refiner: resumable, seeded, stopped early by people who are not trained on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from engines.atomic_write import atomic_write
from engines.backends.torch_backend import import_torch
from engines.errors import UsageError
from engines.networks import refiner
from tools.refiner_training import losses
from tools.refiner_training.batches import Batch, Batches, validation_batch
from tools.refiner_training.samples import Samples
from tools.refiner_training.sheet import write_sheet

if TYPE_CHECKING:
    from torch import Tensor

EMA = 0.99
"""How much of the averaged weights is kept at each step."""
RATE, LAST_RATE, RISE = 8e-4, 2e-5, 0.1
"""The first and the last learning rate, and the share of the steps in which it rises to the first, up to 100 steps."""
KEPT_FROM = {"mouth": 1, "driver": 1, "eyes": 2}
"""How far from the edge of the opening the warp's own detail is kept, samples."""
STEADY_SHARE = 4
"""One in so many samples of a batch is also answered with other noise on its landmarks."""
VALIDATED = 120
"""Held-out samples that the network is measured on."""
SHARP = 0.85
"""The sharpness, over the real frame's, below which a network counts as worse."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a network is trained."""

    net: str
    steps: int
    batch: int
    seed: int
    every: int
    """Steps between two measurements."""
    device: str


@dataclass(frozen=True, slots=True)
class Measure:
    """How good a network is on held-out people."""

    l1: float
    """Weighted L1 over that of the warp."""
    sharpness: float
    """Energy of the Laplacian over the real frame's, where the weights are high."""

    @property
    def score(self) -> float:
        """Return what training lowers: the error, and what is missing in sharpness."""
        return self.l1 + 0.4 * max(0.0, SHARP - self.sharpness)


class Trainer:
    """A network, its average over the steps and its optimiser."""

    def __init__(self, settings: Settings) -> None:
        torch = import_torch()
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.step = 0
        self.best = float("inf")
        self.history: list[dict[str, float]] = []
        self.device = torch.device(settings.device)
        layout = torch.channels_last
        self.net = refiner.create(settings.net).to(self.device, memory_format=layout)
        self.average = copy.deepcopy(self.net).eval().requires_grad_(False)
        self._learns = torch.optim.AdamW(self.net.parameters(), lr=RATE, weight_decay=1e-4, betas=(0.9, 0.99))

    def learn(self, batch: Batch) -> dict[str, float]:
        """Make one step and return the losses."""
        torch = import_torch()
        self._set_rate()
        planes, again, true, weights = (torch.from_numpy(part).to(self.device) for part in batch)
        paired = max(1, len(planes) // STEADY_SHARE)
        given = torch.cat([planes, again[:paired]]).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16):
            change = self.net(given)
        made = _picture(given) + change
        both = made[: len(planes)]
        keep = losses.kept(given, KEPT_FROM[self.settings.net])
        total = losses.reconstruction(both, true, weights, keep[: len(planes)])
        total = total + losses.DETAIL * losses.detail(change, keep)
        steady = ((both[:paired] - made[len(planes) :]) * weights[:paired]).abs().mean()
        told = {"loss": float(total.detach()), "steady": float(steady.detach())}
        total = total + losses.STEADY * steady
        self._learns.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self._learns.step()
        self.step += 1
        share = min(EMA, self.step / (self.step + 20))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.net.parameters(), strict=True):
                mean.lerp_(now, 1 - share)
        return told

    def _set_rate(self) -> None:
        share = self.step / max(1, self.settings.steps)
        rate = LAST_RATE + (RATE - LAST_RATE) * 0.5 * (1 + np.cos(np.pi * min(share, 1.0)))
        rate *= min(1.0, (self.step + 1) / max(1.0, min(100, RISE * self.settings.steps)))
        for group in self._learns.param_groups:
            group["lr"] = float(rate)

    def answer(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the frames that the averaged network makes of ``planes``, (B, 3, S, S) in [0, 1]."""
        torch = import_torch()
        made = []
        with torch.inference_mode():
            for start in range(0, len(planes), 32):
                part = torch.from_numpy(planes[start : start + 32]).to(self.device)
                made.append((_picture(part) + self.average(part)).clamp(0, 1).cpu().numpy())
        return np.concatenate(made)

    def save(self, path: Path) -> None:
        """Write everything that training needs to go on."""
        torch = import_torch()
        with atomic_write(path) as partial:
            torch.save(
                {
                    "settings": asdict(self.settings), "step": self.step, "best": self.best, "history": self.history,
                    "net": self.net.state_dict(), "average": self.average.state_dict(),
                    "learns": self._learns.state_dict(),
                },
                partial,
            )  # fmt: skip

    def start_from(self, path: Path) -> None:
        """Begin with the weights of another network of the same shape."""
        state: dict[str, Any] = import_torch().load(path, map_location=self.device, weights_only=True)
        self.net.load_state_dict(state)
        self.average.load_state_dict(state)

    def resume(self, path: Path) -> None:
        """Go on from what ``save`` wrote. Raises UsageError if that was of other settings."""
        state: dict[str, Any] = import_torch().load(path, map_location=self.device, weights_only=True)
        same = ("net", "batch", "seed", "steps")
        before, now = (
            {name: settings[name] for name in same} for settings in (state["settings"], asdict(self.settings))
        )
        if before != now:
            cure = "train with the same options, or remove the file"
            raise UsageError("checkpoint-of-other-settings", f"{path}, which is of {before}", str(now), cure)
        self.step, self.best, self.history = state["step"], state["best"], state["history"]
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self._learns.load_state_dict(state["learns"])


def _picture(planes: Tensor) -> Tensor:
    """Return the warped frame in planes, (B, 3, S, S) in [0, 1]."""
    return (planes[:, :3] + 1) / 2


def train(
    settings: Settings,
    trained: Sequence[Samples],
    held: Sequence[Samples],
    folder: Path,
    console: Console,
    after: Callable[[int], None] = lambda _: None,
) -> list[dict[str, float]]:
    """Train a network, and return its measurements. ``folder`` gets its checkpoint, its best weights and sheets.

    Training goes on from the checkpoint in ``folder`` if there is one. The network for the driver's mouth begins with
    the weights of the one that makes up a mouth, if they are there. Raises UsageError for a checkpoint of other
    settings. ``after`` is called after each step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(settings)
    checkpoint, best = folder / f"{settings.net}.pt", folder / f"{settings.net}-best.pt"
    if checkpoint.is_file():
        trainer.resume(checkpoint)
    elif settings.net == "driver" and (folder / "mouth-best.pt").is_file():
        trainer.start_from(folder / "mouth-best.pt")
    check = validation_batch(held, settings.net, VALIDATED)
    batches = Batches(trained, settings.net, settings.batch, settings.seed, trainer.step)
    try:
        with _progress(console) as progress:
            task = progress.add_task(settings.net, total=settings.steps, completed=trainer.step, losses="", held="")
            while trainer.step < settings.steps:
                told = trainer.learn(batches.next())
                if trainer.step % 10 == 0:
                    _show(progress, task, trainer, told)
                if trainer.step % settings.every == 0 or trainer.step == settings.steps:
                    _measure(trainer, check, folder, best, console)
                    trainer.save(checkpoint)
                after(trainer.step)
    finally:
        batches.close()
    return trainer.history


def _measure(trainer: Trainer, check: Batch, folder: Path, best: Path, console: Console) -> None:
    """Measure the network on held-out people, write a sheet, and keep the weights if they are the best so far."""
    torch = import_torch()
    made = trainer.answer(check.planes)
    found = measure(made, check)
    trainer.history.append({"step": trainer.step, "l1": found.l1, "sharpness": found.sharpness})
    kept = found.score < trainer.best
    if kept:
        trainer.best = found.score
        torch.save(trainer.average.state_dict(), best)
    write_sheet(folder / f"{trainer.settings.net}-sheet.png", check, made)
    console.print(
        f"{trainer.settings.net} step {trainer.step}: "
        f"L1 over the warp's {found.l1:.3f}, sharpness {found.sharpness:.2f}{', kept' if kept else ''}",
        highlight=False,
    )


def measure(made: NDArray[np.float32], check: Batch) -> Measure:
    """Return how near the frames ``made`` are to the real ones, where the weights are high."""
    warped = (check.planes[:, :3] + 1) / 2
    weights = check.weights
    ours, plain = (float((np.abs(each - check.true) * weights).mean()) for each in (made, warped))
    inside = (weights[:, :, 1:-1, 1:-1] > 1).repeat(3, axis=1)
    energy, real = (float((_laplacian(each)[inside] ** 2).mean()) for each in (made, check.true))
    return Measure(ours / max(plain, 1e-9), float(np.sqrt(energy / max(real, 1e-12))))


def _laplacian(x: NDArray[np.float32]) -> NDArray[np.float32]:
    around = x[..., 1:-1, :-2] + x[..., 1:-1, 2:] + x[..., :-2, 1:-1] + x[..., 2:, 1:-1]
    return np.asarray(around - 4 * x[..., 1:-1, 1:-1], np.float32)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[losses]}"), TimeRemainingColumn(), console=console,
    )  # fmt: skip


def _show(progress: Progress, task: TaskID, trainer: Trainer, told: dict[str, float]) -> None:
    text = " ".join(f"{name} {value:.4f}" for name, value in told.items())
    progress.update(task, completed=trainer.step, losses=text)
