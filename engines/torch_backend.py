"""Stages run by PyTorch: the reference on the CPU; on CUDA in half precision, replayed as one CUDA graph."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.backend import Array, Feeds
from engines.errors import BackendError
from engines.types import TensorSpec

if TYPE_CHECKING:
    from engines.stage import Stage

_WARM_UP = 3


def import_torch() -> Any:
    """PyTorch. Raises BackendError where it is not installed."""
    try:
        import torch
    except ImportError:
        raise BackendError(
            "PyTorch is not installed", cure="python -m pip install -c constraints.txt -e '.[neural]'"
        ) from None
    return torch


class TorchBackend:
    """See ``engines.backend.Backend``."""

    def __init__(self, stage: Stage, device: str = "cpu", *, compiled: bool = False) -> None:
        """``device`` is ``cpu`` or ``cuda``; ``compiled`` has torch.compile work on it first, for minutes.

        Raises BackendError where the device cannot be had.
        """
        torch = import_torch()
        if device == "cuda" and not torch.cuda.is_available():
            raise BackendError("this PyTorch sees no GPU", cure="install a CUDA build of torch, or choose --device cpu")
        self.inputs, self.outputs = stage.inputs, stage.outputs
        self.precision = "float16" if device == "cuda" and stage.halves else "float32"
        self.name = f"torch on {'the CPU' if device == 'cpu' else torch.cuda.get_device_name()}, {self.precision}"
        self._torch = torch
        self._device = device
        self._graph: Any = None
        self._answers: dict[str, Array] = {}
        module = stage.module if device == "cpu" else copy.deepcopy(stage.module).to(device)
        if self.precision == "float16":
            for part in stage.halves:
                half: Any = module.get_submodule(part).half()
                half.to(memory_format=torch.channels_last)
        self._module = torch.compile(module) if compiled else module
        self._host = {spec.name: self._buffer(spec) for spec in stage.inputs}
        self._fed = (
            self._host
            if device == "cpu"
            else {spec.name: torch.zeros(spec.shape, dtype=_dtype(torch, spec), device=device) for spec in stage.inputs}
        )

    def keep(self, name: str, array: Array) -> None:
        """See Backend."""
        self._take(name, array)

    def run(self, feeds: Feeds) -> Feeds:
        """See Backend."""
        torch = self._torch
        try:
            with torch.inference_mode():
                for name, array in feeds.items():
                    self._take(name, array)
                if self._device == "cpu":
                    answers = self._module(*self._fed.values())
                    for spec, tensor in zip(self.outputs, answers, strict=True):
                        self._answers[spec.name] = tensor.numpy()
                    return self._answers
                return self._replay()
        except torch.OutOfMemoryError as error:
            raise BackendError(
                "the GPU is out of memory", cure="close what else uses it, or use --size 512x512"
            ) from error
        except RuntimeError as error:
            if "CUDA" not in str(error):
                raise
            raise BackendError(
                f"the GPU fails: {str(error).splitlines()[0]}", cure="see nvidia-smi, then start again"
            ) from error

    def close(self) -> None:
        """See Backend."""
        self._graph = None
        self._module = None
        self._host = self._fed = {}
        self._answers = {}

    def _buffer(self, spec: TensorSpec) -> Any:
        tensor = self._torch.zeros(spec.shape, dtype=_dtype(self._torch, spec))
        return tensor.pin_memory() if self._device == "cuda" else tensor

    def _take(self, name: str, array: Array) -> None:
        np.copyto(self._host[name].numpy(), array, casting="same_kind")
        if self._device == "cuda":
            self._fed[name].copy_(self._host[name], non_blocking=True)

    def _replay(self) -> Feeds:
        """Run the captured graph, and wait for this frame's own event."""
        torch = self._torch
        if self._graph is None:
            self._capture()
        self._graph.replay()
        for spec, tensor in zip(self.outputs, self._static, strict=True):
            self._pinned[spec.name].copy_(tensor, non_blocking=True)
        self._done.record(torch.cuda.current_stream())
        self._done.synchronize()
        return self._answers

    def _capture(self) -> None:
        torch = self._torch
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._module(*self._fed.values())
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._static = self._module(*self._fed.values())
        self._pinned = {
            spec.name: torch.zeros(tensor.shape, dtype=tensor.dtype).pin_memory()
            for spec, tensor in zip(self.outputs, self._static, strict=True)
        }
        self._answers = {name: tensor.numpy() for name, tensor in self._pinned.items()}
        self._done = torch.cuda.Event(blocking=True)


def _dtype(torch: Any, spec: TensorSpec) -> Any:
    return getattr(torch, spec.dtype)
