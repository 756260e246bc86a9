"""The generated documents of the API: that they are up to date, complete and consistent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_server import FakeServer, closing
from tools import api_docs
from tools.reference import error_codes
from tools.reference.markdown import table
from tools.reference.openapi import ENDPOINTS, Endpoint, document


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """What the documents say now, which takes seconds to collect."""
    return api_docs.documents()


@pytest.fixture
def _collected(made: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_docs, "documents", lambda: made)


@pytest.mark.usefixtures("_collected")
@pytest.mark.parametrize("name", ["api.md", "errors.md", "openapi.json"])
def test_the_documents_are_up_to_date(name: str) -> None:
    assert name not in api_docs.outdated(), "run: python -m tools.api_docs"


@pytest.mark.usefixtures("_collected")
def test_a_missing_document_is_out_of_date(made: dict[str, str], tmp_path: Path) -> None:
    assert api_docs.outdated(tmp_path) == ["api.md", "errors.md", "openapi.json"]
    for name, content in made.items():
        (tmp_path / name).write_text(content, "utf-8")
    assert api_docs.outdated(tmp_path) == []
    (tmp_path / "errors.md").write_text("another", "utf-8")
    assert api_docs.outdated(tmp_path) == ["errors.md"]


def test_every_reference_of_the_openapi_document_exists() -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from (text for key, text in value.items() if key == "$ref")
            for each in value.values():
                yield from references(each)
        elif isinstance(value, list):
            for each in value:
                yield from references(each)

    made = document()
    names = {reference.rpartition("/")[2] for reference in references(made)}
    assert names <= made["components"]["schemas"].keys()
    assert {"State", "Problem", "SetGain"} <= names


@pytest.mark.parametrize(
    "endpoint",
    [each for each in ENDPOINTS if not each.path.startswith(("/wh", "/guest", "/api/links", "/api/local-network"))],
    ids=lambda each: f"{each.method} {each.path}",
)
def test_every_documented_endpoint_exists(endpoint: Endpoint) -> None:
    with closing(FakeServer()) as server:
        reply = server.request(endpoint.method, endpoint.path.replace("{index}", "0"))
        assert reply.status == endpoint.status or json.loads(reply.body)["code"] != "path-not-found"


def test_a_cell_of_a_table_is_one_line() -> None:
    assert table(("a", "b"), [("x|y", "one\n two")]) == "| a | b |\n| --- | --- |\n| x\\|y | one two |\n"


SOURCE = """
from engines.errors import BusyError, PortraitError, RequestError

CURE = "choose another"

class UploadError(PortraitError):
    pass

def check(path, size):
    found = f"the face in {path.name} is {size} pixels wide"
    if size:
        raise UploadError("portrait-too-small", found, f"at least {MIN_SIZE}", CURE)
    elif size is None:
        raise RequestError("request-bad", "one" if path else "two", status=422)
    raise BusyError("not a code", cure="none")
"""


def test_error_codes_are_collected_with_their_texts(tmp_path: Path) -> None:
    for package in error_codes.PACKAGES:
        (tmp_path / package).mkdir()
    (tmp_path / "realtime" / "upload.py").write_text(SOURCE)
    first, second = error_codes.collect(tmp_path)
    assert first == error_codes.ErrorCode(
        "portrait-too-small",
        "PortraitError",
        400,
        "the face in {name} is {size} pixels wide",
        "at least {min_size}",
        "choose another",
    )
    assert (second.code, second.status, second.found) == ("request-bad", 422, "one / two")


def test_different_values_have_different_names_in_the_texts_of_an_error(tmp_path: Path) -> None:
    for package in error_codes.PACKAGES:
        (tmp_path / package).mkdir()
    (tmp_path / "realtime" / "stage.py").write_text(
        "def check(stage, tensor, names, size):\n"
        "    found = f'{stage.name} with {tensor.name} of {size[0]}x{size[1]}, not {tensor.name}'\n"
        "    raise UsageError('stage-wrong', found, f'{len(names)}: {\", \".join(map(str, names))}')\n"
    )
    (only,) = error_codes.collect(tmp_path)
    assert only.found == "{stage_name} with {tensor_name} of {size_1}x{size_2}, not {tensor_name}"
    assert only.expected == "{names_count}: {names}"


def test_codes_of_every_package_are_found(made: dict[str, str]) -> None:
    for code in ("command-unknown", "server-full", "camera-busy", "panic-not-heard"):
        assert f"| `{code}` |" in made["errors.md"]
