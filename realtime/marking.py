"""How the frames of a run are marked: the language of the label, and what the watermark says.

The command line reads its options from here, before anything large is imported.
"""

from __future__ import annotations

import datetime
import locale
import os
import secrets
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from engines.marking.marks import Marking

LabelOption = Literal["auto", "en", "zh", "de", "fr", "es", "off"]
"""The values of the option: auto takes the user's language, or English."""
WITHOUT_LABEL = (
    "no label: in the EU, Article 50 of the AI Act asks you to tell those who see it that this picture is generated; "
    "the watermark stays"
)
_ENGLISH_NAMES = {"zh": "chinese", "de": "german", "fr": "french", "es": "spanish"}
"""How Windows names the languages of the label other than English."""
_LOCALE_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")


def new_marking(label: LabelOption) -> Marking:
    """Return the marking of a session that begins now. Its number is random and not kept anywhere else."""
    from engines.marking.marks import Marking
    from engines.marking.payload import SESSION_BITS, Payload

    today = datetime.datetime.now(datetime.UTC).date()
    payload = Payload.on(secrets.randbits(SESSION_BITS), today)
    return Marking(payload, None if label == "off" else user_language() if label == "auto" else label)


def user_language() -> str:
    """Return the user's language if the label exists in it, otherwise English."""
    named = next((os.environ[name] for name in _LOCALE_VARIABLES if os.environ.get(name)), None)
    language = (named or locale.getlocale()[0] or "").lower()
    for code, word in _ENGLISH_NAMES.items():
        if language.startswith((code, word)):
            return code
    return "en"


def describe_label(marking: Marking) -> str:
    """Return what the user is told about the label."""
    from engines.marking.label import WORDS

    return "no label" if marking.language is None else f"label {WORDS[marking.language]!r}"
