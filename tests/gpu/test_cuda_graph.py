"""CUDA graphs with the real driver."""

from __future__ import annotations

import numpy as np
import pytest

from engines.backends import cuda_graph
from engines.backends.cuda_graph import GraphError


@pytest.mark.usefixtures("tensorrt_machine")
def test_captured_copies_are_done_at_each_launch() -> None:
    from engines.backends.tensorrt_backend import import_driver

    driver = import_driver()
    context = driver.Device(0).retain_primary_context()
    context.push()
    try:
        library = cuda_graph.open_driver()
        stream = driver.Stream(1)
        source, target = (driver.pagelocked_zeros((8,), np.dtype(np.float32)) for _ in range(2))
        memory = driver.mem_alloc(source.nbytes)
        cuda_graph.begin_capture(library, stream.handle)
        driver.memcpy_htod_async(memory, source, stream)
        driver.memcpy_dtoh_async(target, memory, stream)
        graph = cuda_graph.end_capture(library, stream.handle)
        for value in (1.0, 2.0):
            source[:] = value
            assert (target != value).all()
            graph.launch(stream.handle)
            stream.synchronize()
            assert (target == value).all()
        graph.close()
        graph.close()
        memory.free()
    finally:
        driver.Context.pop()


@pytest.mark.usefixtures("tensorrt_machine")
def test_ending_a_capture_that_was_not_begun_is_an_error() -> None:
    from engines.backends.tensorrt_backend import import_driver

    driver = import_driver()
    context = driver.Device(0).retain_primary_context()
    context.push()
    try:
        with pytest.raises(GraphError, match="cuStreamEndCapture"):
            cuda_graph.end_capture(cuda_graph.open_driver(), driver.Stream(1).handle)
    finally:
        driver.Context.pop()
