"""What the mesh generator compiles before the first frame."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import partial
from types import ModuleType

import pytest

from engines.mesh.generator import MeshGenerator

REFINER = "engines.mesh.refine_crops"
"""Compiled by the refiner, where there is one."""


def with_loops() -> Iterator[ModuleType]:
    """Yield the modules of the generator that have compiled loops."""
    for package in ("engines.face", "engines.layers", "engines.eyes", "engines.mesh"):
        for found in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            module = importlib.import_module(found.name)
            if hasattr(module, "compile_all") and found.name != REFINER:
                yield module


def test_no_loop_is_left_to_be_compiled_in_the_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    expected = []
    for module in with_loops():
        expected.append(module.__name__)
        monkeypatch.setattr(module, "compile_all", partial(compiled.append, module.__name__))
    assert len(expected) > 10
    MeshGenerator("painted").close()
    assert sorted(compiled) == sorted(expected)
