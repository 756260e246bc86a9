"""The network from landmarks to codes and the basis from codes to shapes, trained together.

Within a person, the difference of two codes times the basis shall explain the difference of the two shapes: nothing is
asked of differences between people, which stay in the identity shape. The first components are held to the bundle's
ARKit coefficients. Pairs come from one clip and one tracker; half of them are mirrored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

try:
    import torch
    from torch import nn
except ModuleNotFoundError:  # then the classes can be named, not built
    from types import SimpleNamespace

    nn = SimpleNamespace(Module=object)

from engines.face.coefficients import MIRRORED, READ, CoefficientModel
from engines.face.head import pose_against
from engines.face.topology import (
    BROWS,
    CHIN,
    EYE_CORNERS,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    IRISES,
    LOWER_LID_FOLDS,
    LOWER_LIDS,
    LOWER_LIP_ROWS,
    MIRROR,
    MOUTH_CORNERS,
    OUTER_MOUTH_CORNERS,
    OVAL,
    RIGID,
    UPPER_LID_FOLDS,
    UPPER_LIDS,
    UPPER_LIP_ROWS,
)
from tools.expression_training.samples import Samples

FREE = 16
"""Components of a code beside the coefficients."""
HIDDEN = 128
GROUP, GROUPS = 8, 32
"""Frames of one clip that are compared with each other, and how many such groups make a batch."""
NOISE, SHIFT = 0.06 / 5.3, 0.02 / 5.3
"""Noise on single landmarks and on all of a face together, head units."""
LABELS = 0.5
"""Weight of the coefficients against that of the shapes."""

MOUTH = np.unique(
    np.concatenate(
        [MOUTH_CORNERS, OUTER_MOUTH_CORNERS, INNER_UPPER_LIP, INNER_LOWER_LIP, *UPPER_LIP_ROWS, *LOWER_LIP_ROWS]
    )
)
EYES = np.unique(np.concatenate([*EYE_CORNERS, *UPPER_LIDS, *LOWER_LIDS, *UPPER_LID_FOLDS, *LOWER_LID_FOLDS]))
BROW_ROWS = np.array([70, 46, 53, 52, 65, 55, 300, 276, 283, 282, 295, 285], np.intp)
CHEEKS = np.array([1, 2, 98, 327, 50, 280, 205, 425, 187, 411, 36, 266, 101, 330], np.intp)
POINTS = np.unique(np.concatenate([MOUTH, EYES, *IRISES, BROWS, BROW_ROWS, CHIN, OVAL, RIGID, CHEEKS]))
"""The landmarks that the network looks at."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model, as ``coefficients.write`` takes it."""

    arrays: Arrays


class _Batches:
    """Groups of frames, each of one clip as one tracker sees it, half of them mirrored."""

    def __init__(self, samples: Samples, held: frozenset[str], seed: int) -> None:
        kept = ~np.isin(samples.identity, sorted(held))
        flip = np.array([-1, 1, 1], np.float32)
        both = np.concatenate([samples.mesh, samples.task])
        mirrored = both[:, MIRROR] * flip
        labels = np.concatenate([samples.labels, samples.labels])
        order = MIRRORED[:READ]
        self.shapes = torch.tensor(np.concatenate([both, mirrored]).reshape(2 * len(both), -1))
        self.labels = torch.tensor(np.concatenate([labels, labels[:, order]]))
        self.points = torch.tensor(np.concatenate([both, mirrored])[:, POINTS].reshape(2 * len(both), -1))
        self._count = len(both)
        names = np.concatenate([samples.source, np.char.add(samples.source, "#task")])
        clips = np.concatenate([samples.clips & kept] * 2)
        self.groups = [np.flatnonzero(names == name) for name in np.unique(names[clips])]
        self.groups = [group for group in self.groups if len(group) >= GROUP]
        self.stills = np.flatnonzero(np.concatenate([~samples.clips & kept] * 2))
        self.trained = np.flatnonzero(clips)
        shares = np.sqrt([len(group) for group in self.groups])
        self._shares = shares / shares.sum()
        self._random = np.random.default_rng(seed)

    def next(self) -> NDArray[np.intp]:
        """Return the frames of a batch, (GROUPS * GROUP,)."""
        random = self._random
        chosen = random.choice(len(self.groups), GROUPS, p=self._shares)
        mirrored = self._count * (random.random(GROUPS) < 0.5)
        picked = [random.choice(self.groups[k], GROUP) + m for k, m in zip(chosen, mirrored, strict=True)]
        return np.asarray(np.concatenate(picked), np.intp)

    def some_stills(self) -> NDArray[np.intp]:
        """Return a few still portraits, which have a say on the coefficients alone."""
        return self._random.choice(self.stills, 16)


class _Model(nn.Module):
    def __init__(self, inputs: int, basis: torch.Tensor) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, HIDDEN), nn.SiLU(), nn.Dropout(0.1),
            nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), nn.Dropout(0.1),
            nn.Linear(HIDDEN, READ + FREE),
        )  # fmt: skip
        self.basis = nn.Parameter(basis)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        code: torch.Tensor = self.layers(points)
        return torch.cat([torch.sigmoid(code[:, :READ]), code[:, READ:]], dim=1)


def train(samples: Samples, held: frozenset[str], *, epochs: int, seed: int, console: Console) -> Trained:
    """Train on all identities except those in ``held``. The same seed and samples give the same model."""
    torch.manual_seed(seed)
    batches = _Batches(samples, held, seed)
    inputs = batches.points[torch.tensor(batches.trained)]
    mean, spread = inputs.mean(dim=0), inputs.std(dim=0).mean()
    points = (batches.points - mean) / spread
    model = _Model(points.shape[1], _first_basis(batches))
    steps = max(1, epochs * len(batches.trained) // (2 * GROUP * GROUPS))
    optimiser = torch.optim.AdamW(
        [{"params": model.layers.parameters(), "lr": 3e-3}, {"params": [model.basis], "lr": 1e-3}], weight_decay=1e-2
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [3e-3, 1e-3], total_steps=steps)
    weights = _landmark_weights()
    varied = torch.stack([batches.shapes[torch.tensor(group)].var(dim=0).mean() for group in batches.groups]).mean()
    wanted = 1 / (batches.labels[torch.tensor(batches.trained)].std(dim=0) + 0.03)
    for _ in track(range(steps), "training", console=console):
        picked = torch.tensor(batches.next())
        code = model(_disturbed(points[picked], float(spread)))
        left = (batches.shapes[picked] - code @ model.basis).view(GROUPS, GROUP, -1)
        left = left - left.mean(dim=1, keepdim=True)
        shapes = (left.square() * weights).mean() / varied * GROUP / (GROUP - 1)
        labels = ((code[:, :READ] - batches.labels[picked]) * wanted).square().mean()
        loss = shapes + LABELS * labels + 1e-4 * code[:, READ:].square().mean()
        if len(batches.stills):
            some = torch.tensor(batches.some_stills())
            read = model(_disturbed(points[some], float(spread)))[:, :READ]
            loss = loss + LABELS * 0.06 * ((read - batches.labels[some]) * wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return Trained(_arrays(model.eval(), mean, spread))


def _first_basis(batches: _Batches) -> torch.Tensor:
    """Return a basis by ridge regression of shapes on labels within each clip, and small numbers for the free part."""
    shapes, labels = [], []
    for group in batches.groups:
        index = torch.tensor(group)
        shapes.append(batches.shapes[index] - batches.shapes[index].mean(dim=0))
        labels.append(batches.labels[index] - batches.labels[index].mean(dim=0))
    x, e = torch.cat(shapes), torch.cat(labels)
    fitted = torch.linalg.solve(e.T @ e + 10 * torch.eye(READ), e.T @ x)
    return torch.cat([fitted, 0.002 * torch.randn(FREE, x.shape[1])])


def _landmark_weights() -> torch.Tensor:
    weights = np.ones(478, np.float32)
    weights[MOUTH], weights[EYES] = 2.5, 2.0
    return torch.tensor(np.repeat(weights / weights.mean(), 3))


def _disturbed(points: torch.Tensor, spread: float) -> torch.Tensor:
    """Return the network's input with noise on every landmark, and with all of a face moved a little."""
    moved = (SHIFT / spread * torch.randn(len(points), 3)).repeat(1, points.shape[1] // 3)
    return points + NOISE / spread * torch.randn_like(points) + moved


def _arrays(model: _Model, mean: torch.Tensor, spread: torch.Tensor) -> Arrays:
    named: Arrays = {"points": POINTS.astype(np.int16), "mean": mean.numpy(), "spread": spread.reshape(1).numpy()}
    linear = [layer for layer in model.layers if isinstance(layer, nn.Linear)]
    for number, layer in enumerate(linear, 1):
        named[f"w{number}"] = layer.weight.detach().numpy().T.copy()
        named[f"b{number}"] = layer.bias.detach().numpy()
    named["basis"] = model.basis.detach().numpy()
    return {name: array if name == "points" else array.astype(np.float16) for name, array in named.items()}


def evaluate(model: CoefficientModel, samples: Samples, held: frozenset[str]) -> dict[str, float]:
    """Measure a model on people who were not trained on.

    ``r``: mean correlation of a coefficient that varies with the bundle's, within a clip. ``rest after N``: how far the
    face predicted for the calmest frame of a clip is from the true one after N frames, in percent of the distance of
    the outer corners of the eyes, starting from twelve places of each clip.
    """
    figures: dict[str, float] = {}
    for tracker, shapes in (("Face Mesh", samples.mesh), ("landmarker", samples.task)):
        names = np.unique(samples.source[samples.clips & np.isin(samples.identity, sorted(held))])
        correlations: list[float] = []
        rests: dict[int, list[tuple[float, float, float]]] = {1: [], 10: []}
        for name in names:
            index = np.flatnonzero(samples.source == name)
            codes = np.stack([model.read(shape) for shape in shapes[index]])
            correlations += _correlations(codes[:, :READ], samples.labels[index])
            calm = int(np.argmin(_restlessness(samples.labels[index])))
            own = shapes[index] - (codes @ model.basis).reshape(-1, 478, 3)
            for count, found in rests.items():
                for start in range(0, max(1, len(index) - count), max(1, (len(index) - count) // 12)):
                    rest = np.median(own[start : start + count], axis=0) + model.displacement(codes[calm])
                    found.append(_distance(rest.astype(np.float32), shapes[index][calm]))
        figures[f"{tracker}: r"] = round(float(np.mean(correlations)), 3)
        for count, found in rests.items():
            for part, value in zip(("all", "mouth", "eyes"), np.mean(found, axis=0), strict=True):
                figures[f"{tracker}: rest after {count}, {part}"] = round(float(value), 2)
    return figures


def _correlations(codes: NDArray[np.float32], labels: NDArray[np.float32]) -> list[float]:
    varied = np.flatnonzero(labels.std(axis=0) > 0.02)
    return [float(np.corrcoef(codes[:, k], labels[:, k])[0, 1]) for k in varied]


def _restlessness(labels: NDArray[np.float32]) -> NDArray[np.float32]:
    from engines.face.coefficients import NAMES

    parts: Mapping[str, float] = {
        "jawOpen": 1, "eyeBlinkLeft": 0.5, "eyeBlinkRight": 0.5, "mouthSmileLeft": 0.5, "mouthSmileRight": 0.5,
        "mouthPucker": 1,
    }  # fmt: skip
    total = sum(np.float32(weight) * labels[:, NAMES.index(name)] for name, weight in parts.items())
    return np.asarray(total, np.float32)


def _distance(rest: NDArray[np.float32], true: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return how far apart two shapes are by all landmarks, mouth and eyes, in percent of the eyes' distance."""
    laid = pose_against(rest, true).unproject(rest)
    away = np.linalg.norm(laid - true, axis=1) / np.linalg.norm(true[33] - true[263]) * 100
    return float(away[:468].mean()), float(away[MOUTH].mean()), float(away[EYES].mean())
