"""A fake CUDA for PyTorch: tensors stay on the CPU, streams and events are recorded, a graph runs its network."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.support.engines.neural import needs

torch = needs("torch")

from engines.backends import torch_backend  # noqa: E402 - after the skip


class CudaOnCpu(torch.overrides.TorchFunctionMode):  # type: ignore[misc,name-defined]
    """Creates on the CPU whatever is asked for on ``cuda``."""

    def __torch_function__(
        self, call: Any, _: Any, arguments: tuple[Any, ...] = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        if call is torch.Tensor.pin_memory:
            return arguments[0]
        given = {name: _on_cpu(value) for name, value in (options or {}).items()}
        return call(*map(_on_cpu, arguments), **given)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, str | torch.device) and str(value).startswith("cuda"):
        return torch.device("cpu")
    return value


class FakeCuda:
    """PyTorch's streams, events and graphs, with a record of the calls."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.streams = 32
        """The number of streams; then the first is returned again."""
        self.captured: list[int] = []
        """The handles of the streams that were captured."""
        self.may_capture = threading.Event()
        """Each capture waits for it."""
        self.may_capture.set()
        self.started = {name: threading.Semaphore(0) for name in ("capture", "replay")}
        """Count the captures and the frames that have begun."""
        cuda, handles = self, itertools.count()

        class Stream:
            def __init__(self) -> None:
                self.cuda_stream = next(handles) % cuda.streams

            def wait_stream(self, _: Any) -> None:
                cuda.log.append("wait")

        class Event:
            def __init__(self, **_: Any) -> None:
                self.at = 0.0

            def record(self, *_: Any) -> None:
                self.at = time.perf_counter()
                cuda.log.append("record")

            def synchronize(self) -> None:
                cuda.log.append("synchronize")

            def elapsed_time(self, other: Event) -> float:
                return 1e3 * (other.at - self.at)

        class Graph:
            network: Any = None
            """The network that it was captured from."""

            def replay(self) -> None:
                cuda.log.append("replay")
                cuda.started["replay"].release()
                fresh = self.network._module(*self.network._device.tensors.values())
                for held, new in zip(self.network._static, fresh, strict=True):
                    held.copy_(new)

        for name, stand_in in {
            "is_available": lambda: True,
            "get_device_name": lambda: "a fake GPU",
            "get_device_capability": lambda: (0, 0),
            "current_stream": lambda: None,
            "Stream": Stream,
            "Event": Event,
            "CUDAGraph": Graph,
            "stream": lambda _: contextlib.nullcontext(),
            "graph": self.capture,
        }.items():
            patch.setattr(torch.cuda, name, stand_in)
        real = torch_backend._GpuNetwork._capture

        def capture(network: Any) -> None:
            real(network)
            network._graph.network = network

        patch.setattr(torch_backend._GpuNetwork, "_capture", capture)
        patch.setattr(torch_backend, "_free_streams", [])
        patch.setattr(torch_backend, "_stream_locks", defaultdict(threading.Lock))

    @contextlib.contextmanager
    def capture(self, *_: Any, **options: Any) -> Iterator[None]:
        assert options["capture_error_mode"] == "thread_local"
        assert torch.backends.cudnn.benchmark
        self.log.append("capture")
        self.captured.append(options["stream"].cuda_stream)
        self.started["capture"].release()
        assert self.may_capture.wait(10)
        yield


@contextlib.contextmanager
def fake_cuda(patch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """Replace CUDA by a fake inside the block."""
    with CudaOnCpu():
        yield FakeCuda(patch)
