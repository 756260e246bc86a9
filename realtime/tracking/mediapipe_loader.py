"""Imports MediaPipe without Matplotlib, which takes half a second of processor time at each start and is not used.

MediaPipe imports it for drawing landmarks into plots.
"""

from __future__ import annotations

import sys
import threading
from types import ModuleType

_UNUSED = ("matplotlib", "matplotlib.pyplot")
_one_at_a_time = threading.Lock()


def load() -> None:
    """Import MediaPipe, unless it was imported before. Any thread may call this before its own imports of MediaPipe.

    Empty modules stand in for Matplotlib's meanwhile. It can be imported as ever afterwards.
    """
    with _one_at_a_time:
        if "mediapipe" in sys.modules:
            return
        stand_ins = {name: ModuleType(name) for name in _UNUSED if name not in sys.modules}
        sys.modules.update(stand_ins)
        try:
            import mediapipe  # noqa: F401 - for sys.modules
        finally:
            for name in stand_ins:
                sys.modules.pop(name, None)
