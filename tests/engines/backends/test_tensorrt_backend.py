"""The TensorRT backend over a GPU in memory: answers are computed from what was really copied there."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.backends import backend as backends
from engines.backends.backend import CAPTURING, Array, open_stages
from engines.backends.engine_cache import Machine, Sidecar, Tensor, write
from engines.backends.tensorrt_backend import Asked, TensorrtBackend, import_driver, import_tensorrt, this_machine
from engines.errors import BackendError
from engines.types import TensorSpec
from tests.support.fake_gpu import CAPABILITY, NAME, VERSION, Card, Plan
from tests.support.neural import needs

ASKED = Asked(
    "small",
    (TensorSpec("picture", (1, 3, 4, 4)), TensorSpec("gain", (1, 1))),
    (TensorSpec("out", (1, 3, 4, 4)), TensorSpec("mean", (1, 3))),
)
ENGINE = b"an engine"


def answer(picture: Array, gain: Array) -> Mapping[str, Array]:
    out = np.sin(picture) * gain
    return {"out": out, "mean": out.mean(axis=(2, 3))}


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    card = Card({ENGINE: Plan(ASKED.inputs, ASKED.outputs, answer)})
    card.install(monkeypatch)
    return card


def opened() -> TensorrtBackend:
    return TensorrtBackend.of(ASKED, ENGINE, "float16")


def feeds(seed: int = 1) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {spec.name: rng.random(spec.shape, np.float32) for spec in ASKED.inputs}


def assert_answers(backend: TensorrtBackend, fed: Mapping[str, Array], **kept: Array) -> None:
    answers = backend.run(fed)
    expected = answer(**{**kept, **fed})
    assert set(answers) == {"out", "mean"}
    for name, array in expected.items():
        np.testing.assert_allclose(answers[name], array, rtol=1e-6)


def frame_of(card: Card, run: Callable[[], object]) -> list[str]:
    """What was called in it, but for contexts."""
    before = len(card.log)
    run()
    return [name for name in card.log[before:] if name not in ("push", "pop")]


def test_it_answers_as_the_network_does(card: Card) -> None:
    backend = opened()
    assert backend.name == f"tensorrt on {NAME}, float16"
    for seed in range(4):
        assert_answers(backend, feeds(seed))
        assert not card.contexts


@pytest.mark.usefixtures("card")
def test_what_was_fed_before_stays() -> None:
    backend, fed = opened(), feeds()
    backend.run(fed)
    other = feeds(2)
    assert_answers(backend, {"gain": other["gain"]}, picture=fed["picture"])
    fed["picture"][:] = 0  # it was copied
    assert_answers(backend, {}, picture=feeds()["picture"], gain=other["gain"])


@pytest.mark.usefixtures("card")
def test_what_has_another_shape_is_refused_instead_of_spread() -> None:
    backend, wrong = opened(), np.ones((1,), np.float32)
    for act in (lambda: backend.run({"picture": wrong}), lambda: backend.keep("picture", wrong)):
        with pytest.raises(BackendError, match=r"^picture is fed as 1, not as 1x3x4x4$"):
            act()


def test_a_frame_is_one_launch_and_one_wait(card: Card) -> None:
    backend = opened()
    backend.run(feeds())
    for seed in range(3):
        calls = frame_of(card, lambda seed=seed: backend.run(feeds(seed)))  # type: ignore[misc]
        assert calls == ["cuGraphLaunch", "record", "wait", "synchronize"]


def test_nothing_is_allocated_a_frame_and_the_answers_memory_is_the_same(card: Card) -> None:
    backend = opened()
    first = backend.run(feeds())
    held = len(card.memory)
    backend.keep("picture", feeds()["picture"])
    for seed in range(3):
        calls = frame_of(card, lambda seed=seed: backend.run(feeds(seed)))  # type: ignore[misc]
        assert not {"mem_alloc", "pagelocked_zeros", "Stream", "Event"} & set(calls)
    assert len(card.memory) == held == len(ASKED.inputs) + len(ASKED.outputs)
    again = backend.run(feeds())
    assert all(again[name] is first[name] for name in first)


@pytest.mark.parametrize("recordable", [True, False])
def test_what_is_kept_is_not_sent_again(card: Card, recordable: bool) -> None:
    if not recordable:
        card.codes["cuStreamBeginCapture"] = 900
    backend, fed = opened(), feeds()
    backend.run(fed)
    backend.keep("picture", fed["picture"])
    # whatever lies in the memory that it is sent from, the GPU has it
    backend._host["picture"][:] = 7
    assert_answers(backend, {"gain": fed["gain"]}, picture=fed["picture"])
    assert_answers(backend, {"gain": 2 * fed["gain"]}, picture=fed["picture"])
    if not recordable:
        assert frame_of(card, lambda: backend.run({})).count("htod") == 1


def test_another_thing_may_be_kept_without_recording_anew(card: Card) -> None:
    backend, fed = opened(), feeds()
    backend.keep("picture", fed["picture"])
    backend.run({"gain": fed["gain"]})
    other = feeds(9)["picture"]
    backend.keep("picture", other)
    assert card.log.count("cuStreamBeginCapture") == 1
    assert_answers(backend, {"gain": fed["gain"]}, picture=other)
    assert card.log.count("cuStreamBeginCapture") == 1


@pytest.mark.usefixtures("card")
def test_what_was_kept_and_is_fed_is_sent_from_then_on() -> None:
    backend = opened()
    backend.keep("picture", feeds(1)["picture"])
    backend.run({"gain": feeds(1)["gain"]})
    for seed in (2, 3):
        assert_answers(backend, feeds(seed))


def test_what_is_kept_now_and_fed_then_is_recorded_once_each_way(card: Card) -> None:
    backend = opened()
    for seed in range(3):
        fed = feeds(seed)
        assert_answers(backend, fed)
        backend.keep("picture", fed["picture"])
        assert_answers(backend, {"gain": fed["gain"]}, picture=fed["picture"])
    assert card.log.count("cuStreamBeginCapture") == 2
    assert "cuGraphExecDestroy" not in card.log
    backend.close()
    assert not card.executables


def test_an_upload_by_itself_between_frames_has_nothing_recorded_anew(card: Card) -> None:
    backend = opened()
    for seed in range(4):
        assert_answers(backend, feeds(seed))
        backend.keep("picture", feeds(seed)["picture"])
    assert card.log.count("cuStreamBeginCapture") == 1
    assert "cuGraphExecDestroy" not in card.log


@pytest.mark.parametrize(
    "call", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "no driver", "recorded"]
)
def test_work_that_cannot_be_recorded_is_put_on_the_stream_each_time(
    card: Card, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if call == "no driver":
        monkeypatch.undo()
        card.install(monkeypatch)
        monkeypatch.setattr("engines.backends.cuda_graph.open_driver", _no_driver)
    elif call == "recorded":
        card.refuse = call
    else:
        card.codes[call] = 900
    backend = opened()
    for seed in range(3):
        assert_answers(backend, feeds(seed))
    assert card.log.count("cuStreamBeginCapture") <= 1  # it is tried once
    assert not card.graphs
    assert not card.executables
    calls = frame_of(card, lambda: backend.run(feeds()))
    assert calls == ["htod", "htod", "execute", "dtoh", "dtoh", "record", "wait", "synchronize"]


def _no_driver() -> None:
    from engines.backends.cuda_graph import GraphError

    raise GraphError("no libcuda.so.1")


def test_a_recording_waits_for_that_of_another_backend(card: Card) -> None:
    backend = opened()
    frame = threading.Thread(target=backend.run, args=(feeds(),), daemon=True)
    with CAPTURING:
        frame.start()
        frame.join(0.2)
        assert "cuStreamBeginCapture" not in card.log
    frame.join(10)
    assert card.log.count("cuGraphLaunch") == 1


def test_any_thread_may_call(card: Card) -> None:
    errors: list[BaseException] = []

    def on_another_thread(work: Callable[[], object]) -> None:
        def guarded() -> None:
            try:
                work()
                assert not card.contexts
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=guarded)
        thread.start()
        thread.join(5)

    made: list[TensorrtBackend] = []
    on_another_thread(lambda: made.append(opened()))
    (backend,) = made
    on_another_thread(lambda: assert_answers(backend, feeds(1)))
    on_another_thread(lambda: backend.keep("picture", feeds(2)["picture"]))
    assert_answers(backend, feeds(3))
    on_another_thread(lambda: assert_answers(backend, feeds(4)))
    on_another_thread(backend.close)
    assert not errors
    assert not card.memory


def test_closing_gives_everything_back_and_twice_is_no_trouble(card: Card) -> None:
    backend = opened()
    backend.run(feeds())
    backend.close()
    assert not card.memory
    assert not card.executables
    backend.close()
    assert not card.contexts
    # the GPU's own context is shared, and stays for the next one
    other = opened()
    assert_answers(other, feeds())
    assert card.log.count("retain") == 1


def test_memory_that_runs_out_is_told_and_what_there_was_is_given_back(card: Card) -> None:
    card.faults["mem_alloc"] = card.driver.MemoryError("cuMemAlloc failed: out of memory")
    with pytest.raises(BackendError, match="out of memory") as caught:
        opened()
    assert "nvidia-smi" in caught.value.cure
    assert not card.memory
    assert not card.contexts


@pytest.mark.parametrize("call", ["retain", "pagelocked_zeros", "Stream", "Event", "Runtime", "push"])
def test_a_gpu_that_fails_at_the_start_is_told(card: Card, call: str) -> None:
    card.faults[call] = card.driver.Error(f"{call} failed: unspecified launch failure\nand more")
    with pytest.raises(BackendError, match=f"^the GPU fails: {call} failed: unspecified launch failure$") as caught:
        opened()
    assert caught.value.cure
    assert not card.memory
    assert not card.contexts


@pytest.mark.parametrize("error", [TypeError, RuntimeError])
def test_a_tensorrt_that_does_not_start_is_told(card: Card, error: type[Exception]) -> None:
    card.faults["Runtime"] = error("pybind11::init(): factory function returned nullptr")
    with pytest.raises(BackendError, match="TensorRT does not start: pybind11"):
        opened()
    assert not card.contexts


def test_no_memory_for_the_engines_own_tensors_is_told(card: Card) -> None:
    card.refuse = "context"
    with pytest.raises(BackendError, match="no memory left for small"):
        opened()


def test_a_buffer_that_is_not_taken_is_told(card: Card) -> None:
    card.refuse = "address"
    with pytest.raises(BackendError, match="does not take a buffer for picture"):
        opened()
    assert not card.memory


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("act", ["run", "keep"])
def test_a_gpu_that_is_gone_in_mid_run_is_told_and_closing_is_quiet(card: Card, act: str, recorded: bool) -> None:
    if not recorded:
        card.codes["cuStreamBeginCapture"] = 900
    backend = opened()
    backend.run(feeds())
    card.lose()
    with pytest.raises(BackendError, match=r"^the GPU fails: .*unspecified launch failure$") as caught:
        backend.run(feeds()) if act == "run" else backend.keep("picture", feeds()["picture"])
    assert "start again" in caught.value.cure
    assert not card.contexts
    backend.close()
    backend.close()
    assert not card.contexts


def test_a_gpu_that_is_gone_before_the_first_frame_is_told(card: Card) -> None:
    backend = opened()
    card.lose()
    with pytest.raises(BackendError, match="the GPU fails"):
        backend.run(feeds())


def test_a_launch_that_fails_is_told(card: Card) -> None:
    backend = opened()
    backend.run(feeds())
    card.codes["cuGraphLaunch"] = 719
    with pytest.raises(BackendError, match="the GPU fails: cuGraphLaunch answers 719"):
        backend.run(feeds())


def test_an_engine_that_does_not_run_is_told(card: Card) -> None:
    card.refuse = "run"
    backend = opened()
    with pytest.raises(BackendError, match="TensorRT fails to run the engine"):
        backend.run(feeds())
    assert not card.contexts


@pytest.mark.parametrize(
    ("inputs", "outputs", "found"),
    [
        (ASKED.inputs[:1], ASKED.outputs, "gain as nothing, not float32 1x1"),
        (ASKED.inputs, (*ASKED.outputs, TensorSpec("more", (2,))), "more as float32 2, not nothing"),
        ((TensorSpec("picture", (1, 3, 8, 4)), ASKED.inputs[1]), ASKED.outputs, "picture as float32 1x3x8x4, not"),
        (ASKED.inputs, (ASKED.outputs[0], TensorSpec("mean", (1, 3), "float16")), "mean as float16 1x3, not float32"),
        (ASKED.inputs, (ASKED.outputs[0], TensorSpec("mean", (1, 3), "bfloat16")), "mean as bfloat16 1x3, not"),
    ],
)
def test_an_engine_with_other_tensors_is_refused(
    card: Card, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], found: str
) -> None:
    card.plans[ENGINE] = Plan(inputs, outputs, answer)
    with pytest.raises(BackendError, match=f"the engine of small has {found}"):
        opened()
    assert not card.memory


@pytest.mark.usefixtures("card")
def test_an_engine_that_does_not_load_says_why_in_tensorrts_words() -> None:
    with pytest.raises(BackendError, match=r"cannot load the engine of small: the magic tag does not match$"):
        TensorrtBackend.of(ASKED, b"rubbish", "float16")


def test_this_machine_is_told_as_far_as_there_is_one(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    assert this_machine() == Machine(VERSION, NAME, "9.0")
    card.faults["init"] = card.driver.Error("cuInit failed: no CUDA-capable device is detected")
    assert this_machine() == Machine(VERSION, None, None)
    with pytest.raises(BackendError, match="CUDA does not start: cuInit failed"):
        import_driver()
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert this_machine() == Machine(None, None, None)


def test_packages_that_are_not_there_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(BackendError, match=r"^TensorRT is not installed$") as caught:
        import_tensorrt()
    assert "[tensorrt]" in caught.value.cure
    with pytest.raises(BackendError, match=r"^PyCUDA is not installed$"):
        import_driver()


def test_a_tensorrt_without_its_libraries_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.11: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(BackendError, match=r"TensorRT does not load: libnvinfer.so.11"):
        import_tensorrt()


# ---- with the engines on the disk ------------------------------------------------------------------------------------


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where engines are looked for, on a machine with a GPU."""
    monkeypatch.setattr(backends, "has_cuda", lambda: True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    from engines.backends.engine_cache import engines_home

    return engines_home()


def keep_engine(home: Path, card: Card, stage: Any, **changes: Any) -> None:
    """An engine of the stage, as the builder leaves it."""
    import torch

    from engines.backends.onnx_export import identity

    def as_torch(**fed: Array) -> Mapping[str, Array]:
        with torch.inference_mode():
            out, mean = stage.module(*(torch.from_numpy(fed[spec.name].copy()) for spec in stage.inputs))
        return {"out": out.numpy(), "mean": mean.numpy()}

    card.plans[ENGINE] = Plan(stage.inputs, stage.outputs, as_torch)
    fields: dict[str, Any] = {
        "model": "liveportrait",
        "stage": stage.name,
        "network": identity(stage),
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
    write(home, "small", ENGINE, Sidecar(**{**fields, **changes}))


REBUILD = "python -m tools.build_engine liveportrait --weights random:1"


def test_auto_takes_tensorrt_where_its_engines_are(card: Card, home: Path, tmp_path: Path) -> None:
    needs("torch")
    from tests.engines.backends.test_backend import stage

    keep_engine(home, card, stage())
    running = open_stages({"small": stage()}, cache=tmp_path)
    assert running.why == f"tensorrt on {NAME}, float32"
    running.close()
    assert not card.memory


def test_auto_says_why_it_does_not_take_tensorrt(card: Card, home: Path, tmp_path: Path) -> None:
    needs("onnxruntime")
    from tests.engines.backends.test_backend import stage

    keep_engine(home, card, stage(), tensorrt="10.9.0.1")
    running = open_stages({"small": stage()}, cache=tmp_path)
    assert running.why.startswith(("onnx on the CPU", "torch on the CPU"))
    assert (
        f"not tensorrt on cuda: the engine small.engine does not fit: it was built by TensorRT 10.9.0.1, and {VERSION}"
        in (running.why)
    )
    running.close()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (None, "there is no engine for small with these weights"),
        ({"network": "another"}, "there is no engine for small with these weights"),
        ({"gpu": "NVIDIA Other"}, "it was built for NVIDIA Other .* and this is NVIDIA In Memory"),
        ({"gpu": None, "compute_capability": None}, "built on a machine without a GPU"),
        ({"engine_sha256": "0" * 64}, "truncated or changed"),
    ],
)
def test_without_a_fitting_engine_the_command_that_builds_it_is_told(
    card: Card, home: Path, changes: dict[str, Any] | None, found: str
) -> None:
    needs("torch")
    from tests.engines.backends.test_backend import stage

    if changes is not None:
        keep_engine(home, card, stage(), **changes)
    with pytest.raises(BackendError, match=found) as caught:
        open_stages({"small": stage()}, backend="tensorrt", rebuild=REBUILD)
    assert caught.value.cure == REBUILD
    assert not card.memory


def test_an_engine_that_answers_wrongly_is_stopped_at_once(card: Card, home: Path, tmp_path: Path) -> None:
    needs("torch")
    from tests.engines.backends.test_backend import stage

    keep_engine(home, card, stage())
    right = card.plans[ENGINE]

    def black(**fed: Array) -> Mapping[str, Array]:
        return {name: 0 * array for name, array in right.answer(**fed).items()}

    card.plans[ENGINE] = Plan(right.inputs, right.outputs, black)
    with pytest.raises(BackendError, match="a picture of one colour"):
        open_stages({"small": stage()}, backend="tensorrt", cache=tmp_path)
    assert not card.memory
