"""The error model: fields, text, and the round trip across processes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import errors
from engines.errors import AccessDenied, BusyError, ReenactError, RequestError


def classes(kind: type[ReenactError] = ReenactError) -> Iterator[type[ReenactError]]:
    yield kind
    for each in kind.__subclasses__():
        if each.__module__ == errors.__name__:
            yield from classes(each)


CLASSES = sorted(set(classes()), key=lambda kind: kind.__name__)
codes = st.from_regex(r"[a-z]{1,8}(-[a-z]{1,8}){1,3}", fullmatch=True)
texts = st.text(min_size=1, max_size=30)
optional_texts = st.text(max_size=30)


def assert_same(one: ReenactError, other: ReenactError) -> None:
    assert type(one) is type(other)
    for field in ("code", "found", "expected", "cure", "status", "retry_after_s"):
        assert getattr(one, field) == getattr(other, field), field
    assert str(one) == str(other)
    assert one.args == other.args


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@given(code=codes, found=texts, expected=optional_texts, cure=optional_texts)
def test_an_error_survives_json(kind: type[ReenactError], code: str, found: str, expected: str, cure: str) -> None:
    error = kind(code, found, expected, cure)
    assert (error.code, error.found, error.expected, error.cure) == (code, found, expected, cure)
    assert_same(ReenactError.from_dict(json.loads(json.dumps(error.to_dict()))), error)


@given(st.sampled_from([400, 403, 404, 409, 413, 415, 429]))
def test_a_status_of_its_own_survives_json(status: int) -> None:
    for error in (
        RequestError("sdp-too-long", "an offer", "less", status=status),
        AccessDenied("token-wrong", "a token", status=status, retry_after_s=3.5),
    ):
        assert error.status == status
        assert_same(ReenactError.from_dict(json.loads(json.dumps(error.to_dict()))), error)


@given(st.none() | st.floats(0, 3600))
def test_the_time_to_retry_survives_json(seconds: float | None) -> None:
    error = BusyError("uploads-full", "four uploads", retry_after_s=seconds)
    assert_same(ReenactError.from_dict(json.loads(json.dumps(error.to_dict()))), error)


@pytest.mark.parametrize("kind", [None, "", "OSError", "Unknown", "object"])
def test_an_unknown_kind_becomes_a_plain_error(kind: str | None) -> None:
    error = ReenactError.from_dict({"kind": kind, "code": "camera-busy", "found": "a busy camera"})
    assert type(error) is ReenactError
    assert (error.code, str(error)) == ("camera-busy", "a busy camera")


def test_the_text_is_what_was_found_and_expected() -> None:
    assert str(ReenactError("camera-busy", "a busy camera")) == "a busy camera"
    assert (
        str(ReenactError("camera-busy", "a busy camera", "a free one", "close it"))
        == "a busy camera, expected a free one"
    )


def test_every_class_is_in_the_tree_of_the_module() -> None:
    tree = (errors.__doc__ or "").split("Any other exception")[0]
    drawn = re.findall(r"^[ │├└─]*([A-Z]\w+)  ", tree, re.MULTILINE)
    assert sorted(drawn) == [kind.__name__ for kind in CLASSES]
    depth = {name: tree[: tree.index(f"{name}  ")].rpartition("\n")[2] for name in drawn}
    for kind in CLASSES:
        if kind is not ReenactError:
            (parent,) = kind.__bases__
            assert len(depth[parent.__name__]) < len(depth[kind.__name__])
            assert drawn.index(parent.__name__) < drawn.index(kind.__name__)


def test_mistakes_of_the_user_and_failures_differ_in_their_status() -> None:
    for kind in CLASSES:
        usage = issubclass(kind, errors.UsageError)
        assert (400 <= kind.status < 500) == usage, kind
