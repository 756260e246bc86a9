"""The page's words, as the program reads them."""

from __future__ import annotations

import pytest

from realtime.core.page_words import LANGUAGES, accepted_language, slate_text, table
from realtime.pipeline.loader import COMPILING, STARTING
from realtime.server.shared_sinks import SLATE_TEXT


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_text(language: str) -> None:
    assert table(language).keys() == table("en").keys()


@pytest.mark.parametrize("language", [each for each in LANGUAGES if each != "en"])
@pytest.mark.parametrize(
    "text",
    ["waiting for the camera", "back in a moment", "stopped by an error", "nothing to show yet", STARTING, SLATE_TEXT],
)
def test_the_slate_speaks_the_language(text: str, language: str) -> None:
    said = slate_text(text, language)
    assert said != text
    assert slate_text(text, "en") == text
    assert slate_text(f"{COMPILING}: 12 of 40", language).endswith(": 12 / 40")


def test_what_has_no_translation_stays() -> None:
    assert slate_text("something else: 1 of 2", "de") == "something else: 1 of 2"


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("pt-BR, fr;q=0.5", "fr"),
        ("zh-Hant", "zh"),
        ("", "en"),
        ("*", "en"),
        ("../../x", "en"),
        ("x" * 100_000, "en"),
    ],
)
def test_the_language_of_a_request(header: str, language: str) -> None:
    assert accepted_language(header) == language
