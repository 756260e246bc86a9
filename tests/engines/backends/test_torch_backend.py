"""PyTorch on a fake GPU: layouts, packing, and the order of the work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.backends.network_stage import NetworkStage, TensorSpec, sample_inputs
from engines.errors import BackendError
from engines.networks import fomm, liveportrait
from tests.support.engines.fake_cuda import CudaOnCpu, FakeCuda, fake_cuda
from tests.support.engines.neural import needs

torch = needs("torch")

from engines.backends.torch_backend import TorchBackend, channels_last, packed, to_gpu  # noqa: E402 - after the skip


class Layers(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Convolutions of an image and a volume, in half precision if asked for."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.grid_sample = "planar"
        self.flat = torch.nn.Conv2d(4, 8, 3, padding=1)
        self.deep = torch.nn.Sequential(torch.nn.Conv3d(2, 4, 3, padding=1), torch.nn.Linear(40, 40))

    def forward(self, picture: Any, gain: Any) -> tuple[Any, Any]:
        x = self.flat(picture)
        volume = x.reshape(1, 2, 4, *x.shape[2:])
        dtype = self.deep[0].weight.dtype
        y = self.deep(volume.to(dtype)).float() * gain.reshape(1, 1, 1, 1, 1)
        return y, y.mean(dim=(2, 3, 4))


def stage(halves: tuple[str, ...] = ()) -> NetworkStage:
    return NetworkStage(
        "layers",
        Layers().eval(),
        (TensorSpec("picture", (1, 4, 40, 40)), TensorSpec("gain", (1, 1))),
        (TensorSpec("out", (1, 4, 4, 40, 40)), TensorSpec("mean", (1, 4))),
        halves=halves,
        defaults={"gain": (1.0,)},
    )


def test_every_convolution_gets_its_channels_last() -> None:
    layers = Layers()
    before = layers.deep[0](torch.ones(1, 2, 4, 6, 6))
    channels_last(torch, layers)
    assert layers.flat.weight.is_contiguous(memory_format=torch.channels_last)
    assert layers.deep[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    after = layers.deep[0](torch.ones(1, 2, 4, 6, 6))
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("kind", [torch.nn.Conv2d, torch.nn.Conv3d])
@given(inner=st.integers(1, 20), outer=st.integers(1, 20), bias=st.booleans())
@settings(max_examples=15)
def test_padded_channels_change_nothing(kind: Any, inner: int, outer: int, bias: bool) -> None:
    net = torch.nn.Sequential(kind(inner, outer, 3, padding=1, bias=bias), torch.nn.ReLU(), kind(outer, 4, 1))
    x = torch.randn(1, inner, *(4,) * (net[0].weight.ndim - 2))
    with torch.inference_mode():
        expected = net(x)
    channels_last(torch, net)
    assert all(size % 8 == 0 for part in (net[0], net[2]) for size in part.weight.shape[:2])
    with torch.inference_mode():
        torch.testing.assert_close(net(x), expected)


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=8))
def test_packed_inputs_do_not_overlap(lengths: list[int]) -> None:
    specs = tuple(TensorSpec(f"input {index}", (1, length)) for index, length in enumerate(lengths))
    found = packed(torch, specs, lambda size: torch.zeros(size, dtype=torch.uint8))
    assert list(found.tensors) == [spec.name for spec in specs]
    assert found.small == {spec.name for spec in specs if spec.shape[1] * 4 <= 16384}
    for index, tensor in enumerate(found.tensors.values()):
        tensor.fill_(index + 1)
    for index, tensor in enumerate(found.tensors.values()):
        assert tensor.shape == (1, lengths[index])
        assert bool((tensor == index + 1).all())


class OnTheHost(torch.overrides.TorchFunctionMode):  # type: ignore[misc,name-defined]
    """Records every call that copies a value from or to the host, which a CUDA graph cannot contain."""

    CALLS = (
        *(torch.tensor, torch.as_tensor, torch.from_numpy, torch.Tensor.new_tensor, torch.Tensor.item),
        *(torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.numpy, torch.Tensor.__bool__, torch.nonzero),
    )

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, call: Any, _: Any, arguments: Any = (), options: Any = None) -> Any:
        if call in self.CALLS:
            self.seen.append(call.__name__)
        return call(*arguments, **(options or {}))


def traced(module: Any, inputs: tuple[TensorSpec, ...]) -> tuple[Any, list[str]]:
    """Return the outputs of a network on the meta device, and the calls that used the host."""
    given = [torch.empty(spec.shape, device="meta") for spec in inputs]
    with OnTheHost() as host, torch.inference_mode():
        return module(*given), host.seen


@pytest.mark.parametrize("family", [liveportrait, fomm])
def test_the_real_networks_run_as_a_gpu_needs(family: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        parts = {name: part().eval() for name, part in family.MODULES.items()}
    real = torch.nn.Module.to
    monkeypatch.setattr(
        torch.nn.Module, "to", lambda net, *at, **how: net if at == ("cuda",) else real(net, *at, **how)
    )
    for stage in family.stages(parts, grid_sample="planar").values():
        module = to_gpu(torch, stage)
        outputs, on_the_host = traced(module, stage.inputs)
        assert on_the_host == []
        assert [tuple(output.shape) for output in outputs] == [spec.shape for spec in stage.outputs]
        assert {output.dtype for output in outputs} == {torch.float32}
        halves = {parameter.dtype for name in stage.halves for parameter in module.get_submodule(name).parameters()}
        assert halves <= {torch.float16}
        assert all(getattr(part, "channels_last", True) for part in module.modules())
        assert "planar" not in {getattr(part, "grid_sample", None) for part in module.modules()}


def test_a_constant_from_the_host_would_be_noticed() -> None:
    assert traced(lambda x: x * x.new_tensor([1.0, 0.0]), (TensorSpec("x", (1, 2)),))[1]
    assert not traced(lambda x: x * 2, (TensorSpec("x", (1, 2)),))[1]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    with fake_cuda(monkeypatch) as made:
        yield made


def test_a_frame_is_one_replay_and_one_wait(cuda: FakeCuda) -> None:
    reference = TorchBackend(stage())
    backend = TorchBackend(stage(halves=("deep",)), "cuda")
    assert backend.name == "torch on a fake GPU, float16"
    assert backend._module.grid_sample == "native"
    feeds = sample_inputs(backend.inputs, {"gain": (0.5,)})
    expected = {name: array.copy() for name, array in reference.run(feeds).items()}
    first = backend.run(feeds)
    np.testing.assert_allclose(first["out"], expected["out"], atol=2e-3)
    cuda.log.clear()
    second = backend.run({"gain": 2 * feeds["gain"]})
    assert (cuda.log.count("replay"), cuda.log.count("synchronize")) == (1, 1)
    assert second["out"] is first["out"]
    np.testing.assert_allclose(second["mean"], 2 * expected["mean"], atol=2e-3)
    assert not torch.backends.cudnn.benchmark
    backend.close()
    backend.close()


@pytest.mark.usefixtures("cuda")
def test_a_retained_input_on_the_gpu_may_be_left_out() -> None:
    backend = TorchBackend(stage(), "cuda")
    feeds = sample_inputs(backend.inputs, {"gain": (1.0,)})
    for name, array in feeds.items():
        backend.retain_input(name, array)
    np.testing.assert_allclose(backend.run({})["out"], TorchBackend(stage()).run(feeds)["out"], atol=1e-5)


def on_another_thread(work: Callable[[], object]) -> Future[object]:
    """Run work on another thread with the fake GPU."""
    done: Future[object] = Future()

    def guarded() -> None:
        try:
            with CudaOnCpu():
                done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=guarded, daemon=True).start()
    return done


def test_there_is_one_capture_at_a_time(cuda: FakeCuda) -> None:
    first, second = TorchBackend(stage(), "cuda"), TorchBackend(stage(), "cuda")
    feeds = sample_inputs(first.inputs, {"gain": (1.0,)})
    cuda.may_capture.clear()
    both = [on_another_thread(lambda backend=backend: backend.run(feeds)) for backend in (first, second)]  # type: ignore[misc]
    assert cuda.started["capture"].acquire(timeout=10)
    assert not cuda.started["capture"].acquire(timeout=0.2)
    cuda.may_capture.set()
    for done in both:
        assert done.result(10)
    assert cuda.log.count("capture") == 2


def test_networks_that_are_closed_do_not_use_up_the_streams(cuda: FakeCuda) -> None:
    feeds = sample_inputs(stage().inputs, {"gain": (1.0,)})
    TorchBackend(stage(), "cuda").run(feeds)
    for _ in range(2 * cuda.streams):
        backend = TorchBackend(stage(), "cuda")
        backend.run(feeds)
        backend.close()
    assert cuda.captured.count(cuda.captured[0]) == 1


def test_a_frame_on_a_shared_stream_waits_for_the_other_networks_capture(cuda: FakeCuda) -> None:
    cuda.streams = 1
    first, second = TorchBackend(stage(), "cuda"), TorchBackend(stage(), "cuda")
    feeds = sample_inputs(first.inputs, {"gain": (1.0,)})
    first.run(feeds)
    for begun in cuda.started.values():
        assert begun.acquire(timeout=10)
    cuda.may_capture.clear()
    recording = on_another_thread(lambda: second.run(feeds))
    assert cuda.started["capture"].acquire(timeout=10)
    frame = on_another_thread(lambda: first.run(feeds))
    assert not cuda.started["replay"].acquire(timeout=0.2)
    cuda.may_capture.set()
    assert recording.result(10)
    assert frame.result(10)


@pytest.mark.usefixtures("cuda")
def test_an_input_of_another_shape_is_refused_on_a_gpu() -> None:
    with pytest.raises(BackendError) as caught:
        TorchBackend(stage(), "cuda").run({"gain": np.ones((), np.float32)})
    assert (caught.value.code, caught.value.expected) == ("input-wrong-shape", "1x1")


@pytest.mark.usefixtures("cuda")
def test_failures_of_the_gpu_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = TorchBackend(stage(), "cuda")
    for raised, code, detail in (
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "gpu-out-of-memory", ""),
        (RuntimeError("CUDA error: device-side\nmore"), "gpu-failed", "CUDA error: device-side"),
        (RuntimeError("FIND was unable to find an engine"), "gpu-failed", "FIND was unable to find an engine"),
    ):

        def fail(raised: Exception = raised) -> None:
            raise raised

        monkeypatch.setattr(torch.cuda, "CUDAGraph", fail)
        with pytest.raises(BackendError) as caught:
            backend.run(sample_inputs(backend.inputs, {"gain": (1.0,)}))
        assert caught.value.code == code
        assert caught.value.found.endswith(detail)  # the first line only


@pytest.mark.usefixtures("cuda")
def test_a_gpu_without_a_name_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise RuntimeError("all CUDA-capable devices are busy\nmore")

    monkeypatch.setattr(torch.cuda, "get_device_name", fail)
    with pytest.raises(BackendError) as caught:
        TorchBackend(stage(), "cuda")
    assert caught.value.code == "gpu-failed"


def test_a_failed_compilation_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> Any:
        raise FileNotFoundError("no C++ compiler\nat all")

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(BackendError) as caught:
        TorchBackend(stage(), compiled=True)
    assert caught.value.code == "compile-failed"
    assert caught.value.cure == "leave --compile out"
