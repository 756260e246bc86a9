"""The page's tables of words, for what the program itself says in the user's language: the slate and the sign-in."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "zh", "de", "fr", "es")
_FOLDER = Path(__file__).parents[1] / "webrtc" / "page" / "words"
_BEFORE = "export default "


@functools.cache
def table(language: str) -> dict[str, Any]:
    """Return the texts in one of LANGUAGES by key. A text with plural forms is a dictionary."""
    text = (_FOLDER / f"{language}.js").read_text("utf-8")
    words: dict[str, Any] = json.loads(text.partition(_BEFORE)[2].rstrip().removesuffix(";"))
    return words


def slate_text(text: str, language: str) -> str:
    """Return a text of the slate, which is given in English, in a language; as it is where it has no translation.

    What follows a colon is progress, such as ``12 of 40``.
    """
    head, colon, progress = text.partition(": ")
    key = next((key for key, words in table("en").items() if key.startswith("slate.") and words == head), None)
    if language == "en" or key is None:
        return text
    return f"{table(language)[key]}{colon}{progress.replace(' of ', ' / ')}"


def accepted_language(header: str) -> str:
    """Return the first of LANGUAGES that an ``Accept-Language`` names, or English."""
    codes = [each.split(";")[0].strip().lower().split("-")[0] for each in header[:200].split(",")]
    return next((code for code in codes if code in LANGUAGES), "en")
