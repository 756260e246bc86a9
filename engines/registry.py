"""Create a generator by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines.cache_dirs import cache_home
from engines.errors import UsageError, one_of
from engines.generator import GENERATORS, Generator

if TYPE_CHECKING:
    from engines.mesh.refiner import RefineMode
    from engines.networks.retarget import Retarget


def create(
    name: str,
    *,
    mouth: str = "driver",
    refine: RefineMode = "off",
    backend: str = "auto",
    device: str = "auto",
    compiled: bool = False,
    weights: str | None = None,
    retarget: Retarget = "none",
) -> Generator:
    """Create the generator with this name.

    ``mouth`` (one of ``MOUTHS``) and ``refine`` (see ``engines.mesh.refiner``) are for the mesh; the other options are
    for networks: ``backend``, ``device`` and ``compiled`` as in ``engines.backends.open``, and ``weights``: None for
    the published ones, a path, or ``random:SEED``. ``retarget`` is for LivePortrait, see ``engines.networks.retarget``.

    Raises UsageError for an unknown name or an option that the generator does not have, and GeneratorError if its
    weights, packages or device are missing.
    """
    if name == "mesh":
        return _create_mesh(mouth, refine)
    if name not in GENERATORS:
        expected = one_of(GENERATORS)
        raise UsageError("generator-unknown", f"the generator {name!r}", expected, f"choose {expected}")
    from engines.networks.generator import create_network_generator

    return create_network_generator(
        name,
        backend=backend,
        device=device,
        compiled=compiled,
        weights=weights,
        cache=cache_home() / "networks",
        retarget=retarget,
    )


def _create_mesh(mouth: str, refine: RefineMode) -> Generator:
    """Create the mesh generator, with a refiner if requested and available."""
    from engines.mesh.generator import MeshGenerator
    from engines.mesh.refiner import open_refiner

    if refine == "off":
        return MeshGenerator(mouth)
    refiner, said = open_refiner(refine)
    generator = MeshGenerator(mouth, refiner)
    generator.label = f"{generator.label}, {said}"
    return generator
