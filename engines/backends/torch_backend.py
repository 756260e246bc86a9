"""Stages run by PyTorch: the reference on the CPU; on CUDA in half precision, replayed as one CUDA graph."""

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

from engines.backends.backend import CAPTURING, Array, Feeds, put
from engines.errors import BackendError
from engines.install_hint import install
from engines.types import TensorSpec

if TYPE_CHECKING:
    from engines.backends.network_stage import Stage

_WARM_UP = 3
_SMALL = 16384
"""Inputs of fewer bytes go to the GPU together, in one copy a call."""
_ALIGNED = 256
_EIGHT = 8
_free: list[Any] = []
"""Streams that networks which were closed have left."""
_turns: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)
"""By a stream's handle: held to put work on it. PyTorch has 32 streams and hands them out round and round: where there
are more networks, one's frame must not get into the graph that another is recording on the same stream."""


def import_torch() -> Any:
    """PyTorch. Raises BackendError where it is not installed."""
    try:
        import torch
    except ImportError:
        raise BackendError("PyTorch is not installed", cure=install("neural")) from None
    return torch


class TorchBackend:
    """See ``engines.backends.backend.Backend``."""

    def __init__(self, stage: Stage, device: str = "cpu", *, compiled: bool = False) -> None:
        """``device`` is ``cpu`` or ``cuda``; ``compiled`` has torch.compile work on it in the first call, for minutes.

        Raises BackendError where the device cannot be had, or is out of memory.
        """
        torch = import_torch()
        if device == "cuda" and not torch.cuda.is_available():
            raise BackendError("this PyTorch sees no GPU", cure="install a CUDA build of torch, or choose --device cpu")
        self.inputs, self.outputs = stage.inputs, stage.outputs
        self.precision = "float16" if device == "cuda" and stage.halves else "float32"
        self._torch = torch
        self._on_card = device == "cuda"
        self._compiling = compiled
        self._answers: dict[str, Array] = {}
        self._card: _Card | None = None
        with self._told():
            where = torch.cuda.get_device_name() if self._on_card else "the CPU"
            self.name = f"torch on {where}, {self.precision}{', compiled' if compiled else ''}"
            module = stage.module if device == "cpu" else on_card(torch, stage)
            self._module = torch.compile(module) if compiled else module
            if device == "cuda":
                self._card = _Card(torch, self._module, stage)
            else:
                self._fed = {spec.name: torch.zeros(spec.shape, dtype=_dtype(torch, spec)) for spec in stage.inputs}

    def keep(self, name: str, array: Array) -> None:
        """See Backend."""
        with self._told():
            self._take(name, array)

    def run(self, feeds: Feeds) -> Feeds:
        """See Backend."""
        with self._told(), self._torch.inference_mode():
            for name, array in feeds.items():
                self._take(name, array)
            if self._card is not None:
                self._answers = self._card.replay()
            else:
                answers = self._module(*self._fed.values())
                for spec, tensor in zip(self.outputs, answers, strict=True):
                    self._answers[spec.name] = tensor.numpy()
            self._compiling = False
        return self._answers

    def close(self) -> None:
        """See Backend."""
        if self._card is not None:
            self._card.close()
        self._card = None
        self._module = None
        self._fed = {}
        self._answers = {}

    def _take(self, name: str, array: Array) -> None:
        if self._card is not None:
            self._card.take(name, array)
        else:
            put(name, array, self._fed[name].numpy())

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Has the GPU's failures, and the compiler's, said in one line."""
        try:
            yield
        except BackendError:
            raise
        except self._torch.OutOfMemoryError as error:
            raise BackendError(
                "the GPU is out of memory", cure="close what else uses it, or use --size 512x512"
            ) from error
        except Exception as error:
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            ours = type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
            if self._compiling and (ours or not isinstance(error, RuntimeError)):
                raise BackendError(f"torch.compile fails: {line}", cure="leave --compile out") from error
            if self._on_card and isinstance(error, RuntimeError):  # of cuDNN's, some name neither it nor the GPU
                raise BackendError(f"the GPU fails: {line}", cure="see nvidia-smi, then start again") from error
            raise


def on_card(torch: Any, stage: Stage) -> Any:
    """A copy of the stage's network on the GPU: in half precision where it bears it, channels last, sampling volumes
    natively.

    cuDNN's half-precision kernels take channels last only: any other layout is converted before and after each
    convolution, and volumes in half precision may miss cuDNN altogether.
    """
    module = copy.deepcopy(stage.module)
    for name in stage.halves:
        channels_last(torch, module.get_submodule(name).half())
    for part in module.modules():
        if getattr(part, "grid_sample", None) == "planar":  # made for what cannot sample a volume
            part.grid_sample = "native"
        if hasattr(part, "channels_last"):
            part.channels_last = True
    return module.to("cuda")


def channels_last(torch: Any, module: Any) -> None:
    """Lay out the weights of every convolution with the channels last, in place: its answers then are so too."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Conv3d):
            _fill_up(torch, part)
            part.to(memory_format=formats[part.weight.ndim])


def _fill_up(torch: Any, conv: Any) -> None:
    """Give a convolution zero channels up to a multiple of eight, which nobody outside it sees.

    With its channels last, a tensor of 142 of them is not aligned for the loads that feed tensor cores: cuDNN asks for
    multiples of eight in half precision.
    """
    pad = torch.nn.functional.pad
    more_in, more_out = -conv.in_channels % _EIGHT, -conv.out_channels % _EIGHT
    if conv.groups > 1 or not (more_in or more_out):
        return
    around = (0, 0) * (conv.weight.ndim - 2)
    conv.weight = torch.nn.Parameter(pad(conv.weight, (*around, 0, more_in, 0, more_out)), requires_grad=False)
    if conv.bias is not None:
        conv.bias = torch.nn.Parameter(pad(conv.bias, (0, more_out)), requires_grad=False)
    if more_in:
        conv.register_forward_pre_hook(lambda _, inputs: (pad(inputs[0], (*around, 0, more_in)),))
    if more_out:
        conv.register_forward_hook(lambda _, __, answer: answer[:, : conv.out_channels])


class _Card:
    """A network on the GPU: its buffers, its own stream, and the graph captured from it.

    The copies, the graph and the event that ends a frame are all on the one stream, so nothing else needs waiting for.
    """

    def __init__(self, torch: Any, module: Any, stage: Stage) -> None:
        self._torch, self._module, self._outputs = torch, module, stage.outputs
        self._graph: Any = None
        self._stream: Any = _free.pop() if _free else torch.cuda.Stream()
        self._turn = _turns[self._stream.cuda_stream]
        self._done = torch.cuda.Event(blocking=True)
        self._host = packed(torch, stage.inputs, lambda size: torch.zeros(size, dtype=torch.uint8).pin_memory())
        self._fed = packed(torch, stage.inputs, lambda size: torch.zeros(size, dtype=torch.uint8, device="cuda"))
        self._changed = False
        self._stream.wait_stream(torch.cuda.current_stream())

    def take(self, name: str, array: Array) -> None:
        """Copy an input; a small one is sent by ``replay``, with the others."""
        host = self._host.tensors[name]
        put(name, array, host.numpy())
        if name in self._host.small:
            self._changed = True
            return
        with self._turn, self._torch.cuda.stream(self._stream):
            self._fed.tensors[name].copy_(host, non_blocking=True)

    def replay(self) -> dict[str, Array]:
        """Run the captured graph, and wait for this frame's own event. In inference mode."""
        if self._graph is None:
            with CAPTURING, self._torch.cuda.stream(self._stream):
                self._capture()
        with self._turn, self._torch.cuda.stream(self._stream):
            if self._changed:
                self._fed.block.copy_(self._host.block, non_blocking=True)
                self._changed = False
            self._graph.replay()
            for pinned, tensor in zip(self._pinned, self._static, strict=True):
                pinned.copy_(tensor, non_blocking=True)
            self._done.record(self._stream)
        self._done.synchronize()
        return self._answers

    def close(self) -> None:
        """Leave the stream to others; nothing is called afterwards."""
        _free.append(self._stream)

    def _capture(self) -> None:
        torch, fed = self._torch, self._fed.tensors.values()
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = True  # shapes never change: the fastest kernels are chosen in the warm-up
        try:
            for _ in range(_WARM_UP):
                self._module(*fed)
            self._graph = torch.cuda.CUDAGraph()
            # Another thread may be running another generator meanwhile: its calls must not spoil this.
            recording = torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local")
            with self._turn, recording:
                self._static = self._module(*fed)
        except BaseException:
            self._graph = None
            raise
        finally:
            torch.backends.cudnn.benchmark = before
        self._pinned = [torch.zeros(tensor.shape, dtype=tensor.dtype).pin_memory() for tensor in self._static]
        self._answers = {spec.name: pinned.numpy() for spec, pinned in zip(self._outputs, self._pinned, strict=True)}


@dataclass(frozen=True, slots=True)
class Packed:
    """Tensors by name, in the order of the specs; the small ones are parts of one block."""

    tensors: dict[str, Any]
    block: Any
    small: frozenset[str]


def packed(torch: Any, specs: tuple[TensorSpec, ...], make: Callable[[int], Any]) -> Packed:
    """Buffers for inputs, out of what ``make`` answers to a number of bytes: a flat tensor of uint8."""
    sizes = {spec.name: math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in specs}
    small = [spec.name for spec in specs if sizes[spec.name] <= _SMALL]
    starts = list(itertools.accumulate((-(-sizes[name] // _ALIGNED) * _ALIGNED for name in small), initial=0))
    block, at = make(starts[-1]), dict(zip(small, starts, strict=False))
    tensors = {}
    for spec in specs:
        size = sizes[spec.name]
        flat = block[at[spec.name] : at[spec.name] + size] if spec.name in at else make(size)
        tensors[spec.name] = flat.view(_dtype(torch, spec)).view(spec.shape)
    return Packed(tensors, block, frozenset(small))


def _dtype(torch: Any, spec: TensorSpec) -> Any:
    return getattr(torch, spec.dtype)
