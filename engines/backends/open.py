"""Open the networks of a family on a backend: the one asked for, or the fastest that works here.

Asking for a backend that cannot be opened is an error. ``auto`` tries one after another and says which it chose and why
not the others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engines.backends.backend import BACKENDS, DEVICES, Backend
from engines.backends.network_stage import NetworkStage
from engines.backends.numeric_check import check_backend
from engines.errors import BackendError, UsageError, one_of
from engines.install_hint import command, install_command

_ORDER = (
    ("tensorrt", "cuda"),
    ("onnx", "rtx"),
    ("torch", "cuda"),
    ("onnx", "cuda"),
    ("onnx", "cpu"),
    ("torch", "cpu"),
)
"""Every backend with every device that it runs on, the fastest first."""

_OpenBackend = Callable[[NetworkStage], Backend]


@dataclass(frozen=True, slots=True)
class OpenStages:
    """The networks of a family, each on its backend."""

    backends: Mapping[str, Backend]
    choice: str
    """What was chosen and why, for the user."""

    def close(self) -> None:
        """Close every backend. close() is idempotent."""
        for backend in self.backends.values():
            backend.close()


def open_stages(
    stages: Mapping[str, NetworkStage],
    *,
    backend: str = "auto",
    device: str = "auto",
    cache: Path | None = None,
    compiled: bool = False,
    rebuild: str | None = None,
) -> OpenStages:
    """Open every network on a backend, and check its outputs against the reference.

    ``cache`` is the folder of exported networks and reference outputs. ``compiled`` applies torch.compile, for the
    backend ``torch`` only. ``rebuild`` is the command that builds these networks' engines, for messages.

    Raises UsageError for an unknown name, and BackendError if the backend cannot be opened or computes wrongly.
    """
    if backend not in BACKENDS:
        expected = one_of(BACKENDS)
        raise UsageError("backend-unknown", f"the backend {backend!r}", expected, f"choose {expected}")
    if device not in DEVICES:
        expected = one_of(DEVICES)
        raise UsageError("device-unknown", f"the device {device!r}", expected, f"choose {expected}")
    if compiled and backend not in ("auto", "torch"):
        raise UsageError(
            "compile-not-available", f"--compile with --backend {backend}", "torch", "choose --backend torch"
        )
    refusals = ["no NVIDIA GPU here"] if backend == device == "auto" and not has_cuda() else []
    for name, where in _candidates("torch" if compiled else backend, device):
        try:
            opened = _open(stages, _factory(name, where, cache, compiled, rebuild), where, cache)
        except BackendError as error:
            if backend != "auto":
                raise
            refusals.append(f"not {name} on {where}: {error}")
            continue
        reasons = f"; {'; '.join(refusals)}" if refusals else ""
        return OpenStages(opened, next(iter(opened.values())).name + reasons)
    raise BackendError("backend-none-opens", "; ".join(refusals), "a backend that opens", install_command("neural"))


def open_unchecked(
    stage: NetworkStage,
    *,
    backend: str,
    device: str,
    cache: Path | None = None,
    compiled: bool = False,
    rebuild: str | None = None,
) -> Backend:
    """Open one network without checking its outputs. Raises as ``open_stages`` does."""
    _candidates(backend, device)
    factory = _factory(backend, device, cache, compiled, rebuild)
    return _open({stage.name: stage}, factory, device, cache, checked=False)[stage.name]


def has_cuda() -> bool:
    """Return whether an NVIDIA driver is installed, without importing anything heavy."""
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvcuda.dll").exists()
    # the last is the driver of Windows, as seen from WSL
    signs = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/usr/lib/wsl/lib/libcuda.so.1")
    return any(Path(sign).exists() for sign in signs)


def _candidates(backend: str, device: str) -> list[tuple[str, str]]:
    """Return the pairs of backend and device to try, the fastest first. Raises UsageError if there is none."""
    order = list(_ORDER)
    if backend == "auto":
        # TensorRT for RTX has to be asked for: it does not say which GPUs it supports
        order.remove(("onnx", "rtx"))
        if device == "auto" and not has_cuda():
            order = [(name, where) for name, where in order if where == "cpu"]
    chosen = [(name, where) for name, where in order if backend in ("auto", name) and device in ("auto", where)]
    if backend == "onnx" and device == "auto":
        chosen.remove(("onnx", "rtx"))
    if not chosen:
        expected = " or ".join(sorted({where for name, where in _ORDER if name == backend})) or "no --device"
        cure = "choose --backend onnx" if device == "rtx" else "leave --device out"
        found = f"--backend {backend} with --device {device}"
        raise UsageError("device-not-available", found, expected if device != "rtx" else "--backend onnx", cure)
    if backend != "auto" and device == "auto":
        return [(name, where) for name, where in chosen if where == "cpu" or has_cuda()][:1] or chosen[:1]
    return chosen


def _open(
    stages: Mapping[str, NetworkStage],
    factory: _OpenBackend,
    device: str,
    cache: Path | None,
    *,
    checked: bool = True,
) -> dict[str, Backend]:
    """Open every network, or none. Raises BackendError."""
    if device in ("cuda", "rtx") and not has_cuda():
        cure = "choose --device cpu, with --backend torch or onnx"
        raise BackendError("gpu-missing", "no NVIDIA GPU, or no driver for it", cure=cure)
    opened: dict[str, Backend] = {}
    try:
        for key, stage in stages.items():
            opened[key] = factory(stage)
            if checked:
                check_backend(opened[key], stage, cache)
    except BaseException:
        for each in opened.values():
            each.close()
        raise
    return opened


def _factory(name: str, device: str, cache: Path | None, compiled: bool, rebuild: str | None) -> _OpenBackend:
    """Return a function that opens a network on a backend. Raises BackendError if a package is missing."""
    if name == "torch":
        from engines.backends.torch_backend import TorchBackend

        return lambda stage: TorchBackend(stage, device, compiled=compiled)
    if name == "tensorrt":
        try:
            from engines.backends.tensorrt_backend import TensorrtBackend
        except ModuleNotFoundError as error:
            raise BackendError(
                "package-missing", f"no package {error.name}, which tensorrt needs", cure=install_command("tensorrt")
            ) from None
        return lambda stage: TensorrtBackend(stage, rebuild=rebuild or command("build-engine"))
    from engines.backends.onnx_backend import OnnxBackend

    return lambda stage: OnnxBackend(stage, device, cache)
