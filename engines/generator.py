"""The interface of a generator, and the names that are used to choose and control one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, get_args

if TYPE_CHECKING:
    from engines.types import FaceState, Image, Mask, Motion, Portrait

GENERATORS = ("mesh", "liveportrait", "fomm")
"""The values of ``--generator``; ``engines.registry`` creates them."""
Region = Literal["all", "expression", "pose", "lips", "eyes"]
"""What of the portrait moves: the values of ``Motion.region``."""
REGIONS: tuple[str, ...] = get_args(Region)
REGIONS_OF: dict[str, tuple[str, ...]] = {"mesh": REGIONS[:3], "liveportrait": REGIONS, "fomm": REGIONS[:1]}
"""The regions that each generator supports."""
TRANSPARENT = ("mesh",)
"""The generators whose ``alpha`` tells what is transparent."""
DIRECTED = ("mesh",)
"""The generators that show an expression that is set by hand: networks see the driver's picture alone."""
Mouth = Literal["driver", "neural", "painted"]
"""How the mesh fills an open mouth: with the driver's, with one that a network makes up, or with a painted one.

Only a refiner (``engines.mesh.refiner``) with the network for it makes one up.
"""
MOUTHS: tuple[str, ...] = get_args(Mouth)
WARPED_MOUTHS: tuple[str, ...] = ("driver", "painted")
"""Those that need no network."""


class Generator(Protocol):
    """Generates the images. One thread at a time owns it and makes all calls except ``prepare``."""

    name: str
    """Its name in ``GENERATORS``."""
    label: str
    """What to show the user: the name, and for networks their weights, backend and device."""
    random_weights: bool
    """Whether its networks have random weights, so that its images are noise."""
    regions: tuple[str, ...]
    """The values of ``Motion.region`` that it supports, see ``REGIONS_OF``."""
    mouths: tuple[str, ...]
    """The values that ``set_mouth`` takes; empty if there is no choice."""

    @property
    def mouth(self) -> str | None:
        """How an open mouth is filled: one of ``mouths``, or None if there is no choice."""

    def prepare(
        self, name: str, image: Image, face: FaceState, matte: Mask | None = None, behind: Image | None = None
    ) -> Portrait:
        """Compute what all frames of a portrait need.

        ``image`` has the output's size, and ``face`` was found in it. ``matte`` says how much of each pixel belongs to
        the subject, (H, W); without it the whole image is taken to be one surface. ``behind`` is what is behind the
        subject, (H, W, 3), where that is known. All are copied if they are kept. Another thread may call this while
        ``drive`` is running.
        """

    def drive(self, portrait: Portrait, motion: Motion, driving: Image | None) -> Image:
        """Return the portrait with a motion applied: (H, W, 3) RGB of the portrait's size.

        ``driving`` is the image that ``motion.face`` was found in, of any size, or None. The result belongs to the
        generator, which overwrites it in a later call: copy or convert it before the next one.
        """

    def alpha(self) -> Mask | None:
        """Return how much of each pixel of the last image belongs to the subject, (H, W); None if that is not known.

        It belongs to the generator, as the image does.
        """

    def set_mouth(self, mouth: str) -> None:
        """Choose how an open mouth is filled, from the next ``drive`` on.

        Raises CommandError if ``mouth`` is not among ``mouths``.
        """

    @property
    def refined(self) -> bool | None:
        """Whether networks repair the image, see ``engines.mesh.refiner``; None if there is no choice."""

    def set_refined(self, on: bool) -> None:
        """Choose whether networks repair the image, from the next ``drive`` on. Raises CommandError if none can."""

    def close(self) -> None:
        """Release everything. close() is idempotent, and may be called on another thread after the last ``drive``."""
