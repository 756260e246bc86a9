"""CUDA graphs over the driver's library in memory: what is recorded, launched and let go of."""

from __future__ import annotations

import pytest

from engines.backends import cuda_graph
from engines.backends.cuda_graph import GraphError
from tests.support.fake_gpu import NON_BLOCKING, Card, Library, Stream


@pytest.fixture
def card() -> Card:
    card = Card()
    card.driver.Device(0).retain_primary_context().push()
    return card


@pytest.fixture
def stream(card: Card) -> Stream:
    return Stream(card, NON_BLOCKING)


def test_what_is_recorded_is_done_at_each_launch(card: Card, stream: Stream) -> None:
    done: list[int] = []
    cuda_graph.begin(Library(card), stream.handle)
    stream.put(lambda: done.append(len(done)))
    graph = cuda_graph.end(Library(card), stream.handle)
    stream.synchronize()
    assert done == []
    for _ in range(3):
        graph.launch(stream.handle)
    stream.synchronize()
    assert done == [0, 1, 2]


def test_nothing_is_left_of_a_graph_that_is_closed(card: Card, stream: Stream) -> None:
    cuda_graph.begin(Library(card), stream.handle)
    graph = cuda_graph.end(Library(card), stream.handle)
    assert not card.graphs  # the executable is all that is needed
    assert len(card.executables) == 1
    graph.close()
    graph.close()
    assert not card.executables


@pytest.mark.parametrize("call", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"])
def test_a_recording_that_fails_says_which_call_and_leaves_nothing(card: Card, stream: Stream, call: str) -> None:
    card.codes[call] = 900
    with pytest.raises(GraphError, match=f"{call} answers 900"):  # noqa: PT012 - either may be the one
        cuda_graph.begin(Library(card), stream.handle)
        cuda_graph.end(Library(card), stream.handle)
    assert not card.graphs
    assert not card.executables


def test_a_launch_that_fails_is_told(card: Card, stream: Stream) -> None:
    cuda_graph.begin(Library(card), stream.handle)
    graph = cuda_graph.end(Library(card), stream.handle)
    card.codes["cuGraphLaunch"] = 719
    with pytest.raises(GraphError, match="cuGraphLaunch answers 719"):
        graph.launch(stream.handle)


def test_a_driver_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    with pytest.raises(GraphError, match=r"no (libcuda\.so\.1|nvcuda\.dll)"):
        cuda_graph.open_driver()


def test_a_driver_that_is_too_old_for_graphs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    with pytest.raises(GraphError, match="has no cuStreamBeginCapture_v2"):
        cuda_graph.open_driver()
