"""Constants that both processes and the page agree on."""

from __future__ import annotations

VERSION = 1
"""The version of control messages, state and API answers: their member ``v``."""
MAIN_STREAM = "main"
"""The name of the main run's stream, as in ``/whep`` and ``?watch=main``."""
MAX_PICTURES_READ = 2
"""How many uploaded pictures are decoded at the same time. The media process lets further ones wait."""
DEFAULT_FPS = 30.0
"""Frames a second where neither the user nor the source says."""
