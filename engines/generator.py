"""What a generator is, and the one table from its name to its class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engines.errors import UsageError

if TYPE_CHECKING:
    from engines.networks.retarget import Retarget
    from engines.types import FaceState, Image, Motion, Portrait

GENERATORS = ("mesh", "liveportrait", "fomm")
"""The names that ``--generator`` takes."""
REGIONS = ("all", "expression", "pose", "lips", "eyes")
"""What can be moved by itself: the values of ``Motion.region``."""
REGIONS_OF: dict[str, tuple[str, ...]] = {"mesh": REGIONS[:3], "liveportrait": REGIONS, "fomm": REGIONS[:1]}
"""Those that each generator can."""
MOUTHS: tuple[str, ...] = ("driver", "painted")
"""How the mesh fills an open mouth: with the driver's, or with a painted one."""


class Generator(Protocol):
    """Makes the pictures. One thread at a time owns it and calls everything on it but ``prepare``."""

    name: str
    """Its name in ``GENERATORS``."""
    label: str
    """What to show the user: the name, and for networks their weights, backend and device."""
    random_weights: bool
    """Whether its networks have random weights, so that its pictures are noise."""
    regions: tuple[str, ...]
    """The values of ``Motion.region`` that it supports, see ``REGIONS_OF``."""
    mouths: tuple[str, ...]
    """The values that ``set_mouth`` takes; empty where there is no choice."""

    @property
    def mouth(self) -> str | None:
        """How an open mouth is filled: one of ``mouths``, or None where there is no choice."""

    def prepare(self, name: str, image: Image, face: FaceState) -> Portrait:
        """Compute once what every frame of a portrait needs.

        ``image`` has the output's size and ``face`` was seen in it. Both are copied where they are kept. It may be
        called on another thread while ``drive`` is at work.
        """

    def drive(self, portrait: Portrait, motion: Motion, driving: Image | None) -> Image:
        """Return the portrait doing what ``motion`` says, (H, W, 3) RGB of the portrait's size.

        ``driving`` is the picture ``motion.face`` was seen in, any size, or None. The result belongs to the generator,
        which writes over it in a later call: copy or convert it before the next one.
        """

    def set_mouth(self, mouth: str) -> None:
        """Choose how an open mouth is filled, from the next ``drive`` on.

        Raises CommandError if ``mouth`` is not among ``mouths``.
        """

    def close(self) -> None:
        """Let go of everything; may be called twice, and on another thread than ``drive`` once that is over."""


def create(
    name: str,
    *,
    mouth: str = "driver",
    backend: str = "auto",
    device: str = "auto",
    compiled: bool = False,
    weights: str | None = None,
    retarget: Retarget = "none",
) -> Generator:
    """Build the generator of that name.

    ``mouth`` (``driver`` or ``painted``) is the mesh's. The networks' are ``backend``, ``device`` and ``compiled`` as
    in ``engines.backends.backend``, and ``weights``: None for the published ones, a path, or ``random:SEED``.
    ``retarget`` is LivePortrait's, see ``engines.networks.retarget``; the mesh shuts eyes and lips by itself.

    Raises UsageError for a name that is not in the table, or a network that cannot retarget, GeneratorError where it
    cannot be had.
    """
    if name == "mesh":
        from engines.mesh.generator import MeshGenerator

        return MeshGenerator(mouth=mouth)
    if name in GENERATORS:
        from engines.cache_dirs import cache_home
        from engines.networks import generator

        return generator.create(
            name,
            backend=backend,
            device=device,
            compiled=compiled,
            weights=weights,
            cache=cache_home() / "networks",
            retarget=retarget,
        )
    raise UsageError(f"no generator is called {name!r}", cure=f"choose one of: {', '.join(GENERATORS)}")
