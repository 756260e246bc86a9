"""Files of engines in a folder, as the engine builder writes them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from engines.backends.engine_cache import Machine, Sidecar, Tensor, Tolerance, write_engine
from engines.backends.network_stage import TensorSpec

HERE = Machine("11.4.0.106", "NVIDIA GeForce RTX 4090", "8.9")
REBUILD = "python -m tools.build_engine liveportrait"
NETWORK = "0123456789abcdef"
FIELDS: dict[str, Any] = {
    "model": "liveportrait",
    "stage": "frame",
    "network": NETWORK,
    "weights": "random weights of seed 1",
    "onnx_sha256": "0" * 64,
    "engine_sha256": "",
    "tensorrt": HERE.tensorrt,
    "gpu": HERE.gpu,
    "compute_capability": HERE.compute_capability,
    "precision": "float16",
    "float32": ["warping_module.dense_motion_network"],
    "opset": 20,
    "grid_sample": "native",
    "workspace_mib": None,
    "level": 3,
    "inputs": [Tensor.of(TensorSpec("feature", (1, 32, 16, 64, 64)))],
    "outputs": [Tensor.of(TensorSpec("image", (1, 3, 512, 512)))],
    "export": Tolerance(by="ONNX Runtime against PyTorch", allowed=0.05, mean=1e-3, max=1e-2, worst_layer="conv"),
    "engine": None,
    "median_ms": 3.2,
    "p99_ms": 4.1,
    "built_in_s": 61.5,
    "built_at": "2026-03-01T12:00:00+00:00",
    "command": REBUILD,
}


def sidecar(engine: bytes = b"engine", **changes: Any) -> Sidecar:
    """Return the description of an engine with some fields changed."""
    return Sidecar(**{**FIELDS, "engine_sha256": hashlib.sha256(engine).hexdigest(), **changes})


def put(folder: Path, name: str = "frame-1", engine: bytes = b"engine", **changes: Any) -> Path:
    """Write an engine and its description, with some fields changed, and return its path."""
    return write_engine(folder, name, engine, sidecar(engine, **changes))
