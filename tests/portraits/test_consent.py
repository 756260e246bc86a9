from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from engines.errors import ConsentError
from realtime import cli
from realtime.portraits.bundled import bundled_portraits
from realtime.portraits.consent import VARIABLE, Ledger, Right, fingerprint, require
from tools import consent as tool


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("realtime.portraits.consent.ledger_path", lambda: tmp_path / "own" / "consent.jsonl")
    return Ledger()


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    path = tmp_path / "mona.jpg"
    path.write_bytes(b"a picture")
    return path


def code_of(ledger: Ledger, *portraits: Path, given: Right | None = None) -> str:
    with pytest.raises(ConsentError) as caught:
        require(portraits, given, None, lambda _: None, ledger)
    return caught.value.code


def test_a_portrait_without_an_answer_is_refused(ledger: Ledger, portrait: Path) -> None:
    assert code_of(ledger, portrait) == "consent-missing"
    assert not ledger.path.exists()


def test_an_answer_is_asked_for_once_for_a_picture_whatever_its_name(
    ledger: Ledger, portrait: Path, tmp_path: Path
) -> None:
    asked: list[str] = []

    def ask(name: str) -> Right | None:
        asked.append(name)
        return "agreed"

    copy = tmp_path / "copy.jpg"
    copy.write_bytes(portrait.read_bytes())
    for path in (portrait, portrait, copy):
        require([path], None, ask, lambda _: None, ledger)
    assert asked == ["mona.jpg"]
    assert ledger.rights()[fingerprint(portrait)].right == "agreed"


def test_an_option_and_the_environment_answer(ledger: Ledger, portrait: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require([portrait], "self", None, lambda _: None, ledger)
    assert ledger.rights()[fingerprint(portrait)].right == "self"
    portrait.write_bytes(b"another picture")
    monkeypatch.setenv(VARIABLE, "fictional")
    require([portrait], None, None, lambda _: None, ledger)
    assert ledger.rights()[fingerprint(portrait)].right == "fictional"
    portrait.write_bytes(b"a third picture")
    monkeypatch.setenv(VARIABLE, "perhaps")
    assert code_of(ledger, portrait) == "consent-unknown"


def test_bundled_portraits_are_registered(ledger: Ledger) -> None:
    require([each.path for each in bundled_portraits()], None, None, lambda _: None, ledger)
    assert ledger.entries() == []


def test_a_revoked_answer_is_asked_for_again(
    ledger: Ledger, portrait: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require([portrait], "self", None, lambda _: None, ledger)
    assert tool.main(["list"]) == 0
    assert "mona.jpg" in capsys.readouterr().out
    assert tool.main(["revoke", fingerprint(portrait)[:10]]) == 0
    assert code_of(ledger, portrait) == "consent-missing"
    assert tool.main(["show", str(portrait)]) == 0
    assert "revoked" in capsys.readouterr().out
    assert tool.main(["show", "ffff"]) == 2


@pytest.mark.parametrize("change", ["word", "order", "removed", "rubbish"])
def test_a_ledger_that_was_edited_is_refused(ledger: Ledger, portrait: Path, change: str) -> None:
    for number in range(3):
        ledger.add(f"{number}" * 64, f"{number}.jpg", "agreed")
    lines = ledger.path.read_text().splitlines()
    if change == "word":
        lines[1] = lines[1].replace("agreed", "self")
    elif change == "order":
        lines[0], lines[1] = lines[1], lines[0]
    elif change == "removed":
        del lines[1]
    else:
        lines.append("{")
    ledger.path.write_text("\n".join(lines) + "\n")
    assert code_of(ledger, portrait, given="self") == "consent-ledger-changed"
    with pytest.raises(ConsentError):
        ledger.add("f" * 64, "a.jpg", "self")


def test_a_ledger_that_cannot_be_written_leaves_the_answer_for_this_run(portrait: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way of the folder")
    said: list[str] = []
    require([portrait], "self", None, said.append, Ledger(tmp_path / "file" / "consent.jsonl"))
    assert len(said) == 1


@pytest.mark.parametrize("name", ["a\u2028b.jpg", "a\x85b\x0c.jpg", "a\nb\rc.jpg", "caf\udce9.jpg"])
def test_any_name_of_a_file_can_be_kept(ledger: Ledger, name: str) -> None:
    ledger.add("0" * 64, name, "self")
    ledger.add("1" * 64, "next.jpg", "agreed")
    assert [entry.name for entry in ledger.entries()] == [name.replace("\udce9", "\ufffd"), "next.jpg"]


def test_two_programs_write_one_chain(ledger: Ledger) -> None:
    def write(first: int) -> None:
        for number in range(20):
            Ledger(ledger.path).add(f"{first + number:064x}", "a.jpg", "self")

    threads = [threading.Thread(target=write, args=(1000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.entries()) == 80
    assert all(json.loads(line)["right"] == "self" for line in ledger.path.read_text().splitlines())


def test_the_program_refuses_before_it_opens_anything(ledger: Ledger, portrait: Path) -> None:
    assert not os.environ.get(VARIABLE)
    with pytest.raises(ConsentError) as caught:
        cli.execute(["--portrait", str(portrait), "--camera", "performer", "--sink", "null", "--frames", "1"])
    assert caught.value.code == "consent-missing"
    assert caught.value.cure
    assert ledger.entries() == []
