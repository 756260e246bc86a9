"""A GPU that is the CPU: tensors stay where they are, streams and events are noted, a graph is its network again."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.support.neural import needs

torch = needs("torch")

from engines.backends import torch_backend  # noqa: E402 - after the skip


class Elsewhere(torch.overrides.TorchFunctionMode):  # type: ignore[misc,name-defined]
    """Has everything that is asked for on ``cuda`` made on the CPU."""

    def __torch_function__(
        self, call: Any, _: Any, arguments: tuple[Any, ...] = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        if call is torch.Tensor.pin_memory:
            return arguments[0]
        given = {name: _here(value) for name, value in (options or {}).items()}
        return call(*map(_here, arguments), **given)


def _here(value: Any) -> Any:
    if isinstance(value, str | torch.device) and str(value).startswith("cuda"):
        return torch.device("cpu")
    return value


class Recorder:
    """PyTorch's streams, events and graphs, and what was asked of them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.streams = 32
        """As many as there are; then the first is handed out again."""
        self.captured: list[int] = []
        """The streams that something was recorded on, by their handles."""
        self.go_on = threading.Event()
        """Waited for in each recording."""
        self.go_on.set()
        self.begun = {name: threading.Semaphore(0) for name in ("capture", "replay")}
        """Counts the recordings and the frames that were begun."""
        recorder, handles = self, itertools.count()

        class Stream:
            def __init__(self) -> None:
                self.cuda_stream = next(handles) % recorder.streams

            def wait_stream(self, _: Any) -> None:
                recorder.log.append("wait")

        class Event:
            def __init__(self, **_: Any) -> None:
                self.at = 0.0

            def record(self, *_: Any) -> None:
                self.at = time.perf_counter()
                recorder.log.append("record")

            def synchronize(self) -> None:
                recorder.log.append("synchronize")

            def elapsed_time(self, other: Event) -> float:
                return 1e3 * (other.at - self.at)

        class Graph:
            card: Any = None
            """Whose network it is."""

            def replay(self) -> None:
                recorder.log.append("replay")
                recorder.begun["replay"].release()
                fresh = self.card._module(*self.card._device.tensors.values())
                for held, new in zip(self.card._static, fresh, strict=True):
                    held.copy_(new)

        for name, stand_in in {
            "is_available": lambda: True,
            "get_device_name": lambda: "a recorder",
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

        def capture(card: Any) -> None:
            real(card)
            card._graph.card = card

        patch.setattr(torch_backend._GpuNetwork, "_capture", capture)
        patch.setattr(torch_backend, "_free_streams", [])
        patch.setattr(torch_backend, "_stream_locks", defaultdict(threading.Lock))

    @contextlib.contextmanager
    def capture(self, *_: Any, **options: Any) -> Iterator[None]:
        assert options["capture_error_mode"] == "thread_local"
        assert torch.backends.cudnn.benchmark
        self.log.append("capture")
        self.captured.append(options["stream"].cuda_stream)
        self.begun["capture"].release()
        assert self.go_on.wait(10)
        yield


@contextlib.contextmanager
def pretended(patch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Within, PyTorch believes that there is a GPU."""
    with Elsewhere():
        yield Recorder(patch)
