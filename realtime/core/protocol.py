"""Constants that both processes and the page agree on."""

from __future__ import annotations

VERSION = 1
"""The version of control messages, state and API answers: their member ``v``."""
MAIN_STREAM = "main"
"""The name of the main run's stream, as in ``/whep`` and ``?watch=main``."""
DEFAULT_FPS = 30.0
"""Frames a second where neither the user nor the source says."""
