"""The weights of the refiner that ship: one safetensors file in half precision, whose checksum stands beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.atomic_write import atomic_write
from engines.backends.torch_backend import import_torch
from engines.errors import GeneratorError
from engines.install_hint import install_command
from engines.networks import refiner

if TYPE_CHECKING:
    from engines.networks.refiner import RefinerNet

FOLDER = Path(__file__).parents[1] / "weights"
FILE, SUMS = "refiner.safetensors", "refiner.json"
VERSION = 1
"""The layout of the networks and of their planes that the weights are for."""
MOST_BYTES = 10 << 20
EXPECTED, CURE = "the file that this version of reenact ships", "reinstall reenact, or train it again"


def shipped(folder: Path = FOLDER) -> bool:
    """Return True if there are weights of the refiner."""
    return (folder / FILE).is_file()


def load(folder: Path = FOLDER) -> dict[str, RefinerNet]:
    """Return the networks by name. Raises GeneratorError if a package or the file is missing, or was changed."""
    torch = import_torch()
    path, sums = folder / FILE, stated(folder)
    try:
        content = path.read_bytes()
    except OSError:
        raise GeneratorError("refiner-missing", f"no refiner weights at {path}", EXPECTED, CURE) from None
    if sums.get("version") != VERSION or hashlib.sha256(content).hexdigest() != sums.get("sha256"):
        raise GeneratorError("refiner-changed", f"{path}, which does not match its checksum", EXPECTED, CURE)
    tensors = _safetensors().load(content)
    parts = {}
    for name in sorted({key.partition(".")[0] for key in tensors}):
        net = refiner.create(name)
        own = {key.partition(".")[2]: value.to(torch.float32) for key, value in tensors.items() if key.startswith(name)}
        try:
            net.load_state_dict(own)
        except RuntimeError:
            raise GeneratorError("refiner-changed", f"{path}, which is of other networks", EXPECTED, CURE) from None
        parts[name] = net.eval()
    return parts


def random(seed: int) -> dict[str, RefinerNet]:
    """Return networks with random weights, for tests and for building engines without weights."""
    torch = import_torch()
    torch.manual_seed(seed)
    parts = {}
    for name in refiner.NETS:
        net = refiner.create(name)
        torch.nn.init.normal_(net.head.weight, 0, 0.02)
        parts[name] = net.eval()
    return parts


def stated(folder: Path = FOLDER) -> dict[str, Any]:
    """Return what stands beside the weights: ``version``, ``sha256`` and ``recipe``. Raises GeneratorError."""
    path = folder / SUMS
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise GeneratorError("refiner-missing", f"no refiner weights at {folder / FILE}", EXPECTED, CURE) from None
    return content


def write(
    states: Mapping[str, Mapping[str, Any]], folder: Path = FOLDER, recipe: Mapping[str, Any] | None = None
) -> None:
    """Write networks' state dicts by their names, in half precision, and beside them the checksum and the recipe."""
    torch = import_torch()
    tensors = {
        f"{name}.{key}": value.detach().cpu().to(torch.float16).contiguous()
        for name, state in states.items()
        for key, value in state.items()
    }
    content = _safetensors().save(tensors, {"format": "pt", "version": str(VERSION)})
    folder.mkdir(parents=True, exist_ok=True)
    sums = {"version": VERSION, "sha256": hashlib.sha256(content).hexdigest(), "recipe": dict(recipe or {})}
    with atomic_write(folder / FILE) as partial:
        partial.write_bytes(content)
    with atomic_write(folder / SUMS) as partial:
        partial.write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")


def _safetensors() -> Any:
    """Import safetensors for PyTorch. Raises GeneratorError if it is not installed."""
    try:
        import safetensors.torch
    except ImportError:
        raise GeneratorError("package-missing", "no package safetensors", cure=install_command("neural")) from None
    return safetensors.torch
