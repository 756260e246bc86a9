"""The weights of the refiner that ship: one safetensors file in half precision, whose checksum stands beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.atomic_write import atomic_write
from engines.backends.torch_backend import import_torch
from engines.errors import GeneratorError
from engines.networks.refiner_layout import NETS

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


def arrays(folder: Path = FOLDER) -> dict[str, dict[str, NDArray[Any]]]:
    """Return the weights of each network by their names. Raises GeneratorError if the file is missing or was changed.

    This needs no package: a safetensors file is the length of a header as 8 bytes, the header as JSON, and the tensors
    (https://github.com/huggingface/safetensors#format).
    """
    path, sums = folder / FILE, stated(folder)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise GeneratorError("refiner-changed", f"{path}, which is too large", EXPECTED, CURE)
        content = path.read_bytes()
    except OSError:
        raise GeneratorError("refiner-missing", f"no refiner weights at {path}", EXPECTED, CURE) from None
    if sums.get("version") != VERSION or hashlib.sha256(content).hexdigest() != sums.get("sha256"):
        raise GeneratorError("refiner-changed", f"{path}, which does not match its checksum", EXPECTED, CURE)
    start = 8 + int.from_bytes(content[:8], "little")
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for key, told in json.loads(content[8:start]).items():
        if key != "__metadata__":
            name, _, own = key.partition(".")
            first, last = told["data_offsets"]
            values = np.frombuffer(content[start + first : start + last], np.float16)
            found.setdefault(name, {})[own] = values.reshape(told["shape"])
    return found


def load(folder: Path = FOLDER) -> dict[str, RefinerNet]:
    """Return the networks by name for PyTorch. Raises GeneratorError as ``arrays``, or if a package is missing."""
    torch = import_torch()
    from engines.networks import refiner

    parts = {}
    for name, own in sorted(arrays(folder).items()):
        net = refiner.create(name)
        try:
            net.load_state_dict({key: torch.from_numpy(value.astype(np.float32)) for key, value in own.items()})
        except RuntimeError:
            found = f"{folder / FILE}, which is of other networks"
            raise GeneratorError("refiner-changed", found, EXPECTED, CURE) from None
        parts[name] = net.eval()
    return parts


def random(seed: int) -> dict[str, RefinerNet]:
    """Return networks with random weights, for tests and for building engines without weights."""
    torch = import_torch()
    from engines.networks import refiner

    torch.manual_seed(seed)
    parts = {}
    for name in NETS:
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
    header: dict[str, Any] = {"__metadata__": {"format": "pt", "version": str(VERSION)}}
    blocks, offset = [], 0
    for name, state in states.items():
        for key, value in state.items():
            values = np.ascontiguousarray(value.detach().cpu().numpy(), np.float16)
            blocks.append(values.tobytes())
            place = [offset, offset + values.nbytes]
            header[f"{name}.{key}"] = {"dtype": "F16", "shape": values.shape, "data_offsets": place}
            offset += values.nbytes
    told = json.dumps(header, separators=(",", ":")).encode()
    told += b" " * (-len(told) % 8)  # the tensors begin at a multiple of 8
    content = len(told).to_bytes(8, "little") + told + b"".join(blocks)
    folder.mkdir(parents=True, exist_ok=True)
    sums = {"version": VERSION, "sha256": hashlib.sha256(content).hexdigest(), "recipe": dict(recipe or {})}
    with atomic_write(folder / FILE) as partial:
        partial.write_bytes(content)
    with atomic_write(folder / SUMS) as partial:
        partial.write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
