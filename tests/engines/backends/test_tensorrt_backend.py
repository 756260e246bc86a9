"""The TensorRT backend on a fake GPU, which computes from what was really copied to it."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.backends.backend import CAPTURE_LOCK
from engines.backends.engine_cache import Machine, Sidecar, Tensor, write_engine
from engines.backends.network_stage import Array, TensorSpec
from engines.backends.open import open_stages
from engines.backends.tensorrt_backend import (
    EngineSignature,
    TensorrtBackend,
    import_driver,
    import_tensorrt,
    this_machine,
)
from engines.errors import BackendError
from tests.support.engines.fake_gpu import CAPABILITY, NAME, VERSION, FakeGpu, Plan
from tests.support.engines.neural import needs

SIGNATURE = EngineSignature(
    "small",
    (TensorSpec("picture", (1, 3, 4, 4)), TensorSpec("gain", (1, 1))),
    (TensorSpec("out", (1, 3, 4, 4)), TensorSpec("mean", (1, 3))),
)
ENGINE = b"an engine"


def outputs_of(picture: Array, gain: Array) -> Mapping[str, Array]:
    out = np.sin(picture) * gain
    return {"out": out, "mean": out.mean(axis=(2, 3))}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    gpu = FakeGpu({ENGINE: Plan(SIGNATURE.inputs, SIGNATURE.outputs, outputs_of)})
    gpu.install(monkeypatch)
    return gpu


def opened() -> TensorrtBackend:
    return TensorrtBackend.from_engine(SIGNATURE, ENGINE, "float16")


def feeds(seed: int = 1) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {spec.name: rng.random(spec.shape, np.float32) for spec in SIGNATURE.inputs}


def assert_outputs(backend: TensorrtBackend, fed: Mapping[str, Array], **kept: Array) -> None:
    answers = backend.run(fed)
    expected = outputs_of(**{**kept, **fed})
    assert set(answers) == {"out", "mean"}
    for name, array in expected.items():
        np.testing.assert_allclose(answers[name], array, rtol=1e-6)


def calls_of(gpu: FakeGpu, run: Callable[[], object]) -> list[str]:
    """Return the calls that a function makes, without those about contexts."""
    before = len(gpu.log)
    run()
    return [name for name in gpu.log[before:] if name not in ("push", "pop")]


def test_the_outputs_are_the_networks(gpu: FakeGpu) -> None:
    backend = opened()
    assert backend.name == f"tensorrt on {NAME}, float16"
    for seed in range(4):
        assert_outputs(backend, feeds(seed))
        assert not gpu.contexts


@pytest.mark.usefixtures("gpu")
def test_inputs_that_are_left_out_keep_their_values() -> None:
    backend, fed = opened(), feeds()
    backend.run(fed)
    other = feeds(2)
    assert_outputs(backend, {"gain": other["gain"]}, picture=fed["picture"])
    fed["picture"][:] = 0  # it was copied
    assert_outputs(backend, {}, picture=feeds()["picture"], gain=other["gain"])


@pytest.mark.usefixtures("gpu")
def test_an_input_of_another_shape_is_refused() -> None:
    backend, wrong = opened(), np.ones((1,), np.float32)
    for act in (lambda: backend.run({"picture": wrong}), lambda: backend.retain_input("picture", wrong)):
        with pytest.raises(BackendError) as caught:
            act()
        assert (caught.value.code, caught.value.expected) == ("input-wrong-shape", "1x3x4x4")


def test_a_frame_is_one_launch_and_one_wait(gpu: FakeGpu) -> None:
    backend = opened()
    backend.run(feeds())
    for seed in range(3):
        calls = calls_of(gpu, lambda seed=seed: backend.run(feeds(seed)))  # type: ignore[misc]
        assert (calls.count("cuGraphLaunch"), calls.count("wait")) == (1, 1)
        assert not {"htod", "dtoh", "execute"} & set(calls)  # the graph contains them


def test_a_frame_allocates_nothing_and_reuses_the_outputs(gpu: FakeGpu) -> None:
    backend = opened()
    first = backend.run(feeds())
    held = len(gpu.memory)
    backend.retain_input("picture", feeds()["picture"])
    for seed in range(3):
        calls = calls_of(gpu, lambda seed=seed: backend.run(feeds(seed)))  # type: ignore[misc]
        assert not {"mem_alloc", "pagelocked_zeros", "Stream", "Event"} & set(calls)
    assert len(gpu.memory) == held == len(SIGNATURE.inputs) + len(SIGNATURE.outputs)
    again = backend.run(feeds())
    assert all(again[name] is first[name] for name in first)


@pytest.mark.parametrize("capturable", [True, False])
def test_a_retained_input_is_not_sent_again(gpu: FakeGpu, capturable: bool) -> None:
    if not capturable:
        gpu.codes["cuStreamBeginCapture"] = 900
    backend, fed = opened(), feeds()
    backend.run(fed)
    backend.retain_input("picture", fed["picture"])
    # the GPU has it, whatever the pinned memory contains now
    backend._host["picture"][:] = 7
    assert_outputs(backend, {"gain": fed["gain"]}, picture=fed["picture"])
    assert_outputs(backend, {"gain": 2 * fed["gain"]}, picture=fed["picture"])
    if not capturable:
        assert calls_of(gpu, lambda: backend.run({})).count("htod") == 1


def test_another_value_can_be_retained_without_a_new_capture(gpu: FakeGpu) -> None:
    backend, fed = opened(), feeds()
    backend.retain_input("picture", fed["picture"])
    backend.run({"gain": fed["gain"]})
    other = feeds(9)["picture"]
    backend.retain_input("picture", other)
    assert gpu.log.count("cuStreamBeginCapture") == 1
    assert_outputs(backend, {"gain": fed["gain"]}, picture=other)
    assert gpu.log.count("cuStreamBeginCapture") == 1


@pytest.mark.usefixtures("gpu")
def test_a_retained_input_that_is_fed_is_sent_from_then_on() -> None:
    backend = opened()
    backend.retain_input("picture", feeds(1)["picture"])
    backend.run({"gain": feeds(1)["gain"]})
    for seed in (2, 3):
        assert_outputs(backend, feeds(seed))


def test_an_input_that_is_fed_and_retained_in_turn_is_captured_once_each_way(gpu: FakeGpu) -> None:
    backend = opened()
    for seed in range(3):
        fed = feeds(seed)
        assert_outputs(backend, fed)
        backend.retain_input("picture", fed["picture"])
        assert_outputs(backend, {"gain": fed["gain"]}, picture=fed["picture"])
    assert gpu.log.count("cuStreamBeginCapture") == 2
    assert "cuGraphExecDestroy" not in gpu.log
    backend.close()
    assert not gpu.executables


def test_retaining_an_input_between_frames_causes_no_new_capture(gpu: FakeGpu) -> None:
    backend = opened()
    for seed in range(4):
        assert_outputs(backend, feeds(seed))
        backend.retain_input("picture", feeds(seed)["picture"])
    assert gpu.log.count("cuStreamBeginCapture") == 1
    assert "cuGraphExecDestroy" not in gpu.log


@pytest.mark.parametrize(
    "call", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "no driver", "captured"]
)
def test_work_that_cannot_be_captured_is_put_on_the_stream_for_each_frame(
    gpu: FakeGpu, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if call == "no driver":
        monkeypatch.undo()
        gpu.install(monkeypatch)
        monkeypatch.setattr("engines.backends.cuda_graph.open_driver", _no_driver)
    elif call == "captured":
        gpu.refuse = call
    else:
        gpu.codes[call] = 900
    backend = opened()
    for seed in range(3):
        assert_outputs(backend, feeds(seed))
    assert gpu.log.count("cuStreamBeginCapture") <= 1  # it is tried once
    assert not gpu.graphs
    assert not gpu.executables
    calls = calls_of(gpu, lambda: backend.run(feeds()))
    assert (calls.count("execute"), calls.count("wait")) == (1, 1)


def _no_driver() -> None:
    from engines.backends.cuda_graph import GraphError

    raise GraphError("no libcuda.so.1")


def test_a_capture_waits_for_that_of_another_backend(gpu: FakeGpu) -> None:
    backend = opened()
    frame = threading.Thread(target=backend.run, args=(feeds(),), daemon=True)
    with CAPTURE_LOCK:
        frame.start()
        frame.join(0.2)
        assert "cuStreamBeginCapture" not in gpu.log
    frame.join(10)
    assert gpu.log.count("cuGraphLaunch") == 1


def test_any_thread_may_call(gpu: FakeGpu) -> None:
    errors: list[BaseException] = []

    def on_another_thread(work: Callable[[], object]) -> None:
        def guarded() -> None:
            try:
                work()
                assert not gpu.contexts
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=guarded)
        thread.start()
        thread.join(5)

    made: list[TensorrtBackend] = []
    on_another_thread(lambda: made.append(opened()))
    (backend,) = made
    on_another_thread(lambda: assert_outputs(backend, feeds(1)))
    on_another_thread(lambda: backend.retain_input("picture", feeds(2)["picture"]))
    assert_outputs(backend, feeds(3))
    on_another_thread(lambda: assert_outputs(backend, feeds(4)))
    on_another_thread(backend.close)
    assert not errors
    assert not gpu.memory


def test_close_releases_everything_and_is_idempotent(gpu: FakeGpu) -> None:
    backend = opened()
    backend.run(feeds())
    backend.close()
    assert not gpu.memory
    assert not gpu.executables
    backend.close()
    assert not gpu.contexts
    # the primary context is shared, and stays
    other = opened()
    assert_outputs(other, feeds())
    assert gpu.log.count("retain") == 1


def test_out_of_memory_is_an_error_and_everything_is_released(gpu: FakeGpu) -> None:
    gpu.faults["mem_alloc"] = gpu.driver.MemoryError("cuMemAlloc failed: out of memory")
    with pytest.raises(BackendError) as caught:
        opened()
    assert caught.value.code == "gpu-out-of-memory"
    assert "nvidia-smi" in caught.value.cure
    assert not gpu.memory
    assert not gpu.contexts


@pytest.mark.parametrize("call", ["retain", "pagelocked_zeros", "Stream", "Event", "Runtime", "push"])
def test_a_gpu_that_fails_at_the_start_is_an_error(gpu: FakeGpu, call: str) -> None:
    gpu.faults[call] = gpu.driver.Error(f"{call} failed: unspecified launch failure\nand more")
    with pytest.raises(BackendError) as caught:
        opened()
    assert caught.value.code == "gpu-failed"
    assert caught.value.found.endswith(f"{call} failed: unspecified launch failure")  # the first line only
    assert not gpu.memory
    assert not gpu.contexts


@pytest.mark.parametrize("error", [TypeError, RuntimeError])
def test_a_tensorrt_that_does_not_start_is_an_error(gpu: FakeGpu, error: type[Exception]) -> None:
    gpu.faults["Runtime"] = error("pybind11::init(): factory function returned nullptr")
    with pytest.raises(BackendError) as caught:
        opened()
    assert caught.value.code == "tensorrt-not-starting"
    assert not gpu.contexts


def test_no_memory_for_the_engines_own_tensors_is_an_error(gpu: FakeGpu) -> None:
    gpu.refuse = "context"
    with pytest.raises(BackendError) as caught:
        opened()
    assert caught.value.code == "gpu-out-of-memory"


def test_a_buffer_that_tensorrt_refuses_is_an_error(gpu: FakeGpu) -> None:
    gpu.refuse = "address"
    with pytest.raises(BackendError) as caught:
        opened()
    assert caught.value.code == "engine-buffer-refused"
    assert "picture" in caught.value.found
    assert not gpu.memory


@pytest.mark.parametrize("captured", [True, False])
@pytest.mark.parametrize("act", ["run", "retain"])
def test_a_gpu_that_is_lost_is_an_error_and_close_raises_nothing(gpu: FakeGpu, act: str, captured: bool) -> None:
    if not captured:
        gpu.codes["cuStreamBeginCapture"] = 900
    backend = opened()
    backend.run(feeds())
    gpu.lose()
    with pytest.raises(BackendError) as caught:
        backend.run(feeds()) if act == "run" else backend.retain_input("picture", feeds()["picture"])
    assert caught.value.code == "gpu-failed"
    assert not gpu.contexts
    backend.close()
    backend.close()
    assert not gpu.contexts


def test_a_gpu_that_is_lost_before_the_first_frame_is_an_error(gpu: FakeGpu) -> None:
    backend = opened()
    gpu.lose()
    with pytest.raises(BackendError) as caught:
        backend.run(feeds())
    assert caught.value.code == "gpu-failed"


def test_a_launch_that_fails_is_an_error(gpu: FakeGpu) -> None:
    backend = opened()
    backend.run(feeds())
    gpu.codes["cuGraphLaunch"] = 719
    with pytest.raises(BackendError) as caught:
        backend.run(feeds())
    assert caught.value.code == "gpu-failed"
    assert "cuGraphLaunch answers 719" in caught.value.found


def test_an_engine_that_does_not_run_is_an_error(gpu: FakeGpu) -> None:
    gpu.refuse = "run"
    backend = opened()
    with pytest.raises(BackendError) as caught:
        backend.run(feeds())
    assert caught.value.code == "gpu-failed"
    assert not gpu.contexts


@pytest.mark.parametrize(
    ("inputs", "outputs", "tensor", "expected"),
    [
        (SIGNATURE.inputs[:1], SIGNATURE.outputs, "no tensor gain", "gain as float32 1x1"),
        (SIGNATURE.inputs, (*SIGNATURE.outputs, TensorSpec("more", (2,))), "more as float32 2", "no tensor more"),
        (
            (TensorSpec("picture", (1, 3, 8, 4)), SIGNATURE.inputs[1]),
            SIGNATURE.outputs,
            "picture as float32 1x3x8x4",
            "picture as float32 1x3x4x4",
        ),
        (
            SIGNATURE.inputs,
            (SIGNATURE.outputs[0], TensorSpec("mean", (1, 3), "float16")),
            "mean as float16 1x3",
            "mean as float32 1x3",
        ),
        (
            SIGNATURE.inputs,
            (SIGNATURE.outputs[0], TensorSpec("mean", (1, 3), "bfloat16")),
            "mean as bfloat16 1x3",
            "mean as float32 1x3",
        ),
    ],
)
def test_an_engine_with_other_tensors_is_refused(
    gpu: FakeGpu, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], tensor: str, expected: str
) -> None:
    gpu.plans[ENGINE] = Plan(inputs, outputs, outputs_of)
    with pytest.raises(BackendError) as caught:
        opened()
    assert (caught.value.code, caught.value.expected) == ("engine-wrong-tensors", expected)
    assert tensor in caught.value.found
    assert not gpu.memory


@pytest.mark.usefixtures("gpu")
def test_an_engine_that_does_not_load_is_an_error_with_tensorrts_reason() -> None:
    with pytest.raises(BackendError) as caught:
        TensorrtBackend.from_engine(SIGNATURE, b"rubbish", "float16")
    assert caught.value.code == "engine-not-loading"
    assert caught.value.found.endswith("the magic tag does not match")


def test_this_machine_describes_what_there_is(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    assert this_machine() == Machine(VERSION, NAME, "9.0")
    gpu.faults["init"] = gpu.driver.Error("cuInit failed: no CUDA-capable device is detected")
    assert this_machine() == Machine(VERSION, None, None)
    with pytest.raises(BackendError) as caught:
        import_driver()
    assert caught.value.code == "cuda-not-starting"
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert this_machine() == Machine(None, None, None)


def test_missing_packages_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    for import_package in (import_tensorrt, import_driver):
        with pytest.raises(BackendError) as caught:
            import_package()
        assert caught.value.code == "package-missing"
        assert "[tensorrt]" in caught.value.cure


def test_a_tensorrt_without_its_libraries_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.11: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(BackendError) as caught:
        import_tensorrt()
    assert caught.value.code == "package-broken"
    assert "libnvinfer.so.11" in caught.value.found


# ---- with engines in the cache ---------------------------------------------------------------------------------------


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of engines, on a machine with a GPU."""
    monkeypatch.setattr("engines.backends.open.has_cuda", lambda: True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    from engines.backends.engine_cache import engines_home

    return engines_home()


def cache_engine(home: Path, gpu: FakeGpu, stage: Any, /, **changes: Any) -> None:
    """Write an engine of the stage to the cache, as the builder does."""
    import torch

    from engines.backends.onnx_export import network_id

    def as_torch(**fed: Array) -> Mapping[str, Array]:
        with torch.inference_mode():
            out, mean = stage.module(*(torch.from_numpy(fed[spec.name].copy()) for spec in stage.inputs))
        return {"out": out.numpy(), "mean": mean.numpy()}

    gpu.plans[ENGINE] = Plan(stage.inputs, stage.outputs, as_torch)
    fields: dict[str, Any] = {
        "model": "liveportrait",
        "stage": stage.name,
        "network": network_id(stage),
        "weights": "random weights of seed 1",
        "onnx_sha256": "0" * 64,
        "engine_sha256": hashlib.sha256(ENGINE).hexdigest(),
        "tensorrt": VERSION,
        "gpu": NAME,
        "compute_capability": ".".join(map(str, CAPABILITY)),
        "precision": "float32",
        "opset": 20,
        "grid_sample": None,
        "workspace_mib": None,
        "level": 3,
        "inputs": [Tensor.of(spec) for spec in stage.inputs],
        "outputs": [Tensor.of(spec) for spec in stage.outputs],
        "built_in_s": 1.0,
        "built_at": "2026-01-01T00:00:00+00:00",
        "command": "python -m tools.build_engine liveportrait",
    }
    write_engine(home, "small", ENGINE, Sidecar(**{**fields, **changes}))


REBUILD = "python -m tools.build_engine liveportrait --weights random:1"


def test_auto_chooses_tensorrt_if_its_engines_fit(gpu: FakeGpu, home: Path, tmp_path: Path) -> None:
    needs("torch")
    from tests.support.engines.small_stage import small_stage

    cache_engine(home, gpu, small_stage())
    stages = open_stages({"small": small_stage()}, cache=tmp_path)
    assert stages.choice == f"tensorrt on {NAME}, float32"
    stages.close()
    assert not gpu.memory


def test_auto_says_why_it_does_not_choose_tensorrt(gpu: FakeGpu, home: Path, tmp_path: Path) -> None:
    needs("onnxruntime")
    from tests.support.engines.small_stage import small_stage

    cache_engine(home, gpu, small_stage(), tensorrt="10.9.0.1")
    stages = open_stages({"small": small_stage()}, cache=tmp_path)
    assert stages.choice.startswith(("onnx on the CPU", "torch on the CPU"))
    assert (
        f"not tensorrt on cuda: the engine small.engine does not fit: it was built by TensorRT 10.9.0.1, and {VERSION}"
        in (stages.choice)
    )
    stages.close()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (None, "engine-missing"),
        ({"network": "another"}, "engine-missing"),
        ({"gpu": "NVIDIA Other"}, "engine-mismatch"),
        ({"gpu": None, "compute_capability": None}, "engine-mismatch"),
        ({"engine_sha256": "0" * 64}, "engine-damaged"),
    ],
)
def test_without_a_fitting_engine_the_cure_is_the_build_command(
    gpu: FakeGpu, home: Path, changes: dict[str, Any] | None, code: str
) -> None:
    needs("torch")
    from tests.support.engines.small_stage import small_stage

    if changes is not None:
        cache_engine(home, gpu, small_stage(), **changes)
    with pytest.raises(BackendError) as caught:
        open_stages({"small": small_stage()}, backend="tensorrt", rebuild=REBUILD)
    assert (caught.value.code, caught.value.cure) == (code, REBUILD)
    assert not gpu.memory


def test_an_engine_with_wrong_outputs_is_refused(gpu: FakeGpu, home: Path, tmp_path: Path) -> None:
    needs("torch")
    from tests.support.engines.small_stage import small_stage

    cache_engine(home, gpu, small_stage())
    right = gpu.plans[ENGINE]

    def black(**fed: Array) -> Mapping[str, Array]:
        return {name: 0 * array for name, array in right.compute(**fed).items()}

    gpu.plans[ENGINE] = Plan(right.inputs, right.outputs, black)
    with pytest.raises(BackendError) as caught:
        open_stages({"small": small_stage()}, backend="tensorrt", cache=tmp_path)
    assert caught.value.code == "output-one-colour"
    assert not gpu.memory
