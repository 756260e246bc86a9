"""Networks run by PyTorch: the reference on the CPU; on CUDA in half precision, replayed as one CUDA graph."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.backends.backend import CAPTURE_LOCK, Precision, copy_input, first_line
from engines.errors import BackendError
from engines.install_hint import install_command

if TYPE_CHECKING:
    from engines.backends.network_stage import Array, Feeds, NetworkStage, TensorSpec

_WARM_UP = 3
"""Runs before a capture."""
_SMALL = 16384
"""Inputs of at most so many bytes are sent to the GPU together, in one copy a frame."""
_ALIGNMENT = 256
"""Of tensors in a block, bytes."""
_CHANNEL_MULTIPLE = 8
_free_streams: list[Any] = []
"""The streams of networks that were closed."""
_stream_locks: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)
"""By a stream's handle: held while work is put on it.

PyTorch has 32 streams and hands them out in turn: with more networks, a frame of one must not get into the graph that
another is capturing on the same stream.
"""


def import_torch() -> Any:
    """Import PyTorch. Raises BackendError if it is not installed."""
    try:
        import torch
    except ImportError:
        raise BackendError("package-missing", "no package torch", cure=install_command("neural")) from None
    return torch


class TorchBackend:
    """A network run by PyTorch, see ``engines.backends.backend.Backend``."""

    def __init__(self, stage: NetworkStage, device: str = "cpu", *, compiled: bool = False) -> None:
        """Prepare a network for ``device``: ``cpu`` or ``cuda``.

        ``compiled`` applies torch.compile, which takes minutes in the first call. Raises BackendError if the device is
        not available, or out of memory.
        """
        torch = import_torch()
        if device == "cuda" and not torch.cuda.is_available():
            cure = "install a CUDA build of torch, or choose --device cpu"
            raise BackendError("torch-without-cuda", "a PyTorch that sees no GPU", cure=cure)
        self.inputs, self.outputs = stage.inputs, stage.outputs
        self.precision: Precision = "float16" if device == "cuda" and stage.halves else "float32"
        self.is_reference = device == "cpu" and not compiled
        """Whether it computes the outputs that all backends are compared with."""
        self._torch = torch
        self._on_gpu = device == "cuda"
        self._compiling = compiled
        self._output_arrays: dict[str, Array] = {}
        self._gpu: _GpuNetwork | None = None
        with self._translate_errors():
            where = torch.cuda.get_device_name() if self._on_gpu else "the CPU"
            self.name = f"torch on {where}, {self.precision}{', compiled' if compiled else ''}"
            module = stage.module if device == "cpu" else to_gpu(torch, stage)
            self._module = torch.compile(module) if compiled else module
            if device == "cuda":
                self._gpu = _GpuNetwork(torch, self._module, stage)
            else:
                self._inputs = {spec.name: torch.zeros(spec.shape, dtype=_dtype(torch, spec)) for spec in stage.inputs}

    def retain_input(self, name: str, array: Array) -> None:
        """See ``Backend.retain_input``."""
        with self._translate_errors():
            self._copy_input(name, array)

    def run(self, feeds: Feeds) -> Feeds:
        """See ``Backend.run``."""
        with self._translate_errors(), self._torch.inference_mode():
            for name, array in feeds.items():
                self._copy_input(name, array)
            if self._gpu is not None:
                self._output_arrays = self._gpu.replay()
            else:
                outputs = self._module(*self._inputs.values())
                for spec, tensor in zip(self.outputs, outputs, strict=True):
                    self._output_arrays[spec.name] = tensor.numpy()
            self._compiling = False
        return self._output_arrays

    def close(self) -> None:
        """See ``Backend.close``."""
        if self._gpu is not None:
            self._gpu.close()
        self._gpu = None
        self._module = None
        self._inputs = {}
        self._output_arrays = {}

    def _copy_input(self, name: str, array: Array) -> None:
        if self._gpu is not None:
            self._gpu.copy_input(name, array)
        else:
            copy_input(name, array, self._inputs[name].numpy())

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Turn failures of the GPU and the compiler into BackendError."""
        try:
            yield
        except BackendError:
            raise
        except self._torch.OutOfMemoryError as error:
            cure = "close other programs that use it, or use --size 512x512"
            raise BackendError("gpu-out-of-memory", "no free memory on the GPU", cure=cure) from error
        except Exception as error:
            line = first_line(error)
            from_compiler = type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
            if self._compiling and (from_compiler or not isinstance(error, RuntimeError)):
                found = f"torch.compile fails: {line}"
                raise BackendError("compile-failed", found, cure="leave --compile out") from error
            if self._on_gpu and isinstance(error, RuntimeError):  # some of cuDNN's name neither it nor the GPU
                cure = "see nvidia-smi, then start again"
                raise BackendError("gpu-failed", f"the GPU fails: {line}", cure=cure) from error
            raise


def to_gpu(torch: Any, stage: NetworkStage) -> Any:
    """Return a copy of the stage's network on the GPU, in half precision where it tolerates it, channels last.

    Volumes are sampled natively. cuDNN's half-precision kernels take channels last only: any other layout is converted
    before and after each convolution, and volumes in half precision may miss cuDNN altogether.
    """
    module = copy.deepcopy(stage.module)
    for name in stage.halves:
        channels_last(torch, module.get_submodule(name).half())
    for part in module.modules():
        if getattr(part, "grid_sample", None) == "planar":  # for runtimes that cannot sample a volume
            part.grid_sample = "native"
        if hasattr(part, "channels_last"):
            part.channels_last = True
    return module.to("cuda")


def channels_last(torch: Any, module: Any) -> None:
    """Lay out the weights of every convolution with the channels last, in place; its outputs then are so too."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Conv3d):
            _pad_channels(torch, part)
            part.to(memory_format=formats[part.weight.ndim])


def _pad_channels(torch: Any, conv: Any) -> None:
    """Pad a convolution with zero channels up to a multiple of eight, which is not visible from outside.

    With its channels last, a tensor of 142 channels is not aligned for the loads that feed tensor cores: cuDNN asks
    for multiples of eight in half precision.
    """
    pad = torch.nn.functional.pad
    more_in, more_out = -conv.in_channels % _CHANNEL_MULTIPLE, -conv.out_channels % _CHANNEL_MULTIPLE
    if conv.groups > 1 or not (more_in or more_out):
        return
    kernel = (0, 0) * (conv.weight.ndim - 2)
    conv.weight = torch.nn.Parameter(pad(conv.weight, (*kernel, 0, more_in, 0, more_out)), requires_grad=False)
    if conv.bias is not None:
        conv.bias = torch.nn.Parameter(pad(conv.bias, (0, more_out)), requires_grad=False)
    if more_in:
        conv.register_forward_pre_hook(lambda _, inputs: (pad(inputs[0], (*kernel, 0, more_in)),))
    if more_out:
        conv.register_forward_hook(lambda _, __, output: output[:, : conv.out_channels])


class _GpuNetwork:
    """A network on the GPU: its buffers, its own stream, and the graph captured from it.

    The copies, the graph and the event that ends a frame are all on the one stream, so nothing else needs waiting for.
    """

    def __init__(self, torch: Any, module: Any, stage: NetworkStage) -> None:
        self._torch, self._module, self._outputs = torch, module, stage.outputs
        self._graph: Any = None
        self._stream: Any = _free_streams.pop() if _free_streams else torch.cuda.Stream()
        self._lock = _stream_locks[self._stream.cuda_stream]
        self._done = torch.cuda.Event(blocking=True)
        self._host = packed(torch, stage.inputs, lambda size: torch.zeros(size, dtype=torch.uint8).pin_memory())
        self._device = packed(torch, stage.inputs, lambda size: torch.zeros(size, dtype=torch.uint8, device="cuda"))
        self._changed = False
        self._stream.wait_stream(torch.cuda.current_stream())

    def copy_input(self, name: str, array: Array) -> None:
        """Copy an input; small ones are sent by ``replay``, together. Raises BackendError for another shape."""
        host = self._host.tensors[name]
        copy_input(name, array, host.numpy())
        if name in self._host.small:
            self._changed = True
            return
        with self._lock, self._torch.cuda.stream(self._stream):
            self._device.tensors[name].copy_(host, non_blocking=True)

    def replay(self) -> dict[str, Array]:
        """Run the captured graph, and wait for this frame's own event. Call it in inference mode."""
        if self._graph is None:
            with CAPTURE_LOCK, self._torch.cuda.stream(self._stream):
                self._capture()
        with self._lock, self._torch.cuda.stream(self._stream):
            if self._changed:
                self._device.block.copy_(self._host.block, non_blocking=True)
                self._changed = False
            self._graph.replay()
            for pinned, tensor in zip(self._pinned, self._static, strict=True):
                pinned.copy_(tensor, non_blocking=True)
            self._done.record(self._stream)
        self._done.synchronize()
        return self._output_arrays

    def close(self) -> None:
        """Release the stream for other networks. Nothing may be called afterwards."""
        _free_streams.append(self._stream)

    def _capture(self) -> None:
        torch, inputs = self._torch, self._device.tensors.values()
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = True  # shapes never change: the warm-up chooses the fastest kernels
        try:
            for _ in range(_WARM_UP):
                self._module(*inputs)
            self._graph = torch.cuda.CUDAGraph()
            # Another thread may be running another generator in the meantime, which must not spoil the capture.
            capture = torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local")
            with self._lock, capture:
                self._static = self._module(*inputs)
        except BaseException:
            self._graph = None
            raise
        finally:
            torch.backends.cudnn.benchmark = before
        self._pinned = [torch.zeros(tensor.shape, dtype=tensor.dtype).pin_memory() for tensor in self._static]
        pairs = zip(self._outputs, self._pinned, strict=True)
        self._output_arrays = {spec.name: pinned.numpy() for spec, pinned in pairs}


@dataclass(frozen=True, slots=True)
class Packed:
    """Tensors by name, in the order of the specs; the small ones are parts of one block."""

    tensors: dict[str, Any]
    block: Any
    small: frozenset[str]


def packed(torch: Any, specs: tuple[TensorSpec, ...], allocate: Callable[[int], Any]) -> Packed:
    """Return buffers for inputs. ``allocate`` returns a flat uint8 tensor of a number of bytes."""
    sizes = {spec.name: math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in specs}
    small = [spec.name for spec in specs if sizes[spec.name] <= _SMALL]
    offsets = itertools.accumulate((-(-sizes[name] // _ALIGNMENT) * _ALIGNMENT for name in small), initial=0)
    starts = list(offsets)
    block, start_of = allocate(starts[-1]), dict(zip(small, starts, strict=False))
    tensors = {}
    for spec in specs:
        size, start = sizes[spec.name], start_of.get(spec.name)
        flat = allocate(size) if start is None else block[start : start + size]
        tensors[spec.name] = flat.view(_dtype(torch, spec)).view(spec.shape)
    return Packed(tensors, block, frozenset(small))


def _dtype(torch: Any, spec: TensorSpec) -> Any:
    return getattr(torch, spec.dtype)
