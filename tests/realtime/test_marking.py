from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from engines.marking.label import WORDS
from realtime.marking import LabelOption, new_marking, user_language

ROOT = Path(__file__).parents[2]


def test_every_language_of_the_label_can_be_chosen() -> None:
    assert {*get_args(LabelOption)} == {*WORDS, "auto", "off"}
    assert new_marking("off").language is None
    assert new_marking("fr").language == "fr"


def test_sessions_differ() -> None:
    assert new_marking("en").payload.session != new_marking("en").payload.session


@pytest.mark.parametrize(
    ("setting", "language"), [("de_AT.UTF-8", "de"), ("zh_CN", "zh"), ("C", "en"), ("pt_BR.UTF-8", "en"), ("es", "es")]
)
def test_the_label_is_in_the_language_of_the_user(setting: str, language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LC_MESSAGES", raising=False)
    monkeypatch.setenv("LANG", "fr_FR.UTF-8")
    monkeypatch.setenv("LC_ALL", setting)
    assert user_language() == language
    assert new_marking("auto").language == language


def test_the_command_line_is_read_without_large_packages() -> None:
    code = "import sys, realtime.cli; print(sorted({'numba', 'cv2', 'av', 'mediapipe'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[]"
