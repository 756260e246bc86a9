"""CUDA graphs with a fake driver: capture, launch and release."""

from __future__ import annotations

import pytest

from engines.backends import cuda_graph
from engines.backends.cuda_graph import GraphError
from tests.support.engines.fake_gpu import NON_BLOCKING, FakeGpu, Library, Stream


@pytest.fixture
def gpu() -> FakeGpu:
    gpu = FakeGpu()
    gpu.driver.Device(0).retain_primary_context().push()
    return gpu


@pytest.fixture
def stream(gpu: FakeGpu) -> Stream:
    return Stream(gpu, NON_BLOCKING)


def test_captured_work_is_done_at_each_launch(gpu: FakeGpu, stream: Stream) -> None:
    done: list[int] = []
    cuda_graph.begin_capture(Library(gpu), stream.handle)
    stream.put(lambda: done.append(len(done)))
    graph = cuda_graph.end_capture(Library(gpu), stream.handle)
    stream.synchronize()
    assert done == []
    for _ in range(3):
        graph.launch(stream.handle)
    stream.synchronize()
    assert done == [0, 1, 2]


def test_close_releases_the_graph(gpu: FakeGpu, stream: Stream) -> None:
    cuda_graph.begin_capture(Library(gpu), stream.handle)
    graph = cuda_graph.end_capture(Library(gpu), stream.handle)
    assert not gpu.graphs  # the executable is all that is needed
    assert len(gpu.executables) == 1
    graph.close()
    graph.close()
    assert not gpu.executables


@pytest.mark.parametrize("call", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"])
def test_a_capture_that_fails_names_the_call_and_leaves_nothing(gpu: FakeGpu, stream: Stream, call: str) -> None:
    gpu.codes[call] = 900
    with pytest.raises(GraphError, match=f"{call} answers 900"):  # noqa: PT012 - either may be the one
        cuda_graph.begin_capture(Library(gpu), stream.handle)
        cuda_graph.end_capture(Library(gpu), stream.handle)
    assert not gpu.graphs
    assert not gpu.executables


def test_a_launch_that_fails_is_an_error(gpu: FakeGpu, stream: Stream) -> None:
    cuda_graph.begin_capture(Library(gpu), stream.handle)
    graph = cuda_graph.end_capture(Library(gpu), stream.handle)
    gpu.codes["cuGraphLaunch"] = 719
    with pytest.raises(GraphError, match="cuGraphLaunch answers 719"):
        graph.launch(stream.handle)


def test_a_missing_driver_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    with pytest.raises(GraphError, match=r"no (libcuda\.so\.1|nvcuda\.dll)"):
        cuda_graph.open_driver()


def test_a_driver_that_is_too_old_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    with pytest.raises(GraphError, match="has no cuStreamBeginCapture_v2"):
        cuda_graph.open_driver()
