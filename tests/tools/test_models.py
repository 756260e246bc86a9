"""tools.models against a server on the loopback interface."""

from __future__ import annotations

import hashlib
import http.server
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from engines.errors import ReenactError
from realtime.tracking.model_files import MODELS, ModelFile, model_path, target_path
from tests.support.engines.neural import needs
from tools.models import fetch, main
from tools.support.checkpoints import CHECKPOINTS, Checkpoint, fetch_from_hub

CONTENT = bytes(range(256)) * 400


class Server(http.server.ThreadingHTTPServer):
    """A server of one body, announced as ``length`` bytes."""

    body = CONTENT
    length = len(CONTENT)
    status = 200


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(self.server.length))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


@pytest.fixture
def published(server: Server) -> ModelFile:
    return ModelFile(
        name="thing",
        file="thing.task",
        url=f"http://127.0.0.1:{server.server_address[1]}/thing.task",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size=len(CONTENT),
        purpose="a test",
        licence="MIT",
    )


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Console]:
    with (tmp_path / "console.txt").open("w") as file:
        yield Console(file=file)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_fetched_file_is_complete_and_alone(published: ModelFile, tmp_path: Path, quiet: Console) -> None:
    path = tmp_path / "new" / "thing.task"
    fetch(published, path, quiet)
    assert path.read_bytes() == CONTENT
    assert names_in(path.parent) == ["thing.task"]


def test_an_existing_file_survives_a_failed_fetch(
    server: Server, published: ModelFile, tmp_path: Path, quiet: Console
) -> None:
    path = tmp_path / "kept" / "thing.task"
    path.parent.mkdir()
    path.write_bytes(b"old")
    server.status = 503
    with pytest.raises(ReenactError) as caught:
        fetch(published, path, quiet)
    assert caught.value.code == "download-failed"
    assert "503" in caught.value.found
    assert path.read_bytes() == b"old"
    assert names_in(path.parent) == ["thing.task"]


def wrong_bytes(server: Server) -> None:
    server.body = CONTENT[::-1]


def too_many_bytes(server: Server) -> None:
    server.body = CONTENT + b"more"
    server.length = len(server.body)


def too_few_bytes(server: Server) -> None:
    server.body = CONTENT[:1000]


def too_short_a_file(server: Server) -> None:
    server.body = CONTENT[:1000]
    server.length = len(server.body)


@pytest.mark.parametrize(
    ("damage", "codes"),
    [
        (wrong_bytes, {"download-differs"}),
        (too_many_bytes, {"download-differs"}),
        (too_few_bytes, {"download-differs", "download-failed"}),
        (too_short_a_file, {"download-differs"}),
    ],
)
def test_a_download_that_is_not_the_published_file_is_deleted(
    server: Server,
    published: ModelFile,
    tmp_path: Path,
    quiet: Console,
    damage: Callable[[Server], None],
    codes: set[str],
) -> None:
    damage(server)
    path = tmp_path / "new" / "thing.task"
    with pytest.raises(ReenactError) as caught:
        fetch(published, path, quiet)
    assert caught.value.code in codes
    assert caught.value.cure
    assert names_in(path.parent) == []


def test_without_a_network_the_cure_names_address_and_path(
    published: ModelFile, tmp_path: Path, quiet: Console
) -> None:
    nowhere = replace(published, url="http://127.0.0.1:1/thing.task")
    path = tmp_path / "away" / "thing.task"
    with pytest.raises(ReenactError) as caught:
        fetch(nowhere, path, quiet)
    assert caught.value.code == "download-failed"
    assert nowhere.url in caught.value.cure
    assert str(path) in caught.value.cure


def test_a_folder_that_cannot_be_created_is_an_error(published: ModelFile, tmp_path: Path, quiet: Console) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "thing.task"
    with pytest.raises(ReenactError) as caught:
        fetch(published, path, quiet)
    assert caught.value.code == "cache-not-writable"


def run(*words: str) -> int:
    return main(list(words))


def test_where_and_list_know_which_models_were_fetched(own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert model_path("face_landmarker") is None
    assert run("where", "face_landmarker") == 1
    assert "tools.models fetch face_landmarker" in capsys.readouterr().err
    path = target_path("face_landmarker")
    assert own_cache in path.parents
    path.parent.mkdir(parents=True)
    path.touch()
    assert run("where", "face_landmarker") == 0
    assert capsys.readouterr().out.strip() == str(path)
    assert run("list") == 0
    assert str(path) in capsys.readouterr().out


def test_an_unknown_model_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("where", "unknown") == 2
    assert "face_landmarker" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["fetch", "where"])
def test_a_missing_name_is_answered_with_the_names(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command) == 2
    printed = capsys.readouterr().err
    assert all(name in printed for name in ("face_landmarker", "liveportrait", "fomm"))


def test_the_table_describes_the_real_bundle(face_landmarker: Path) -> None:
    assert MODELS["face_landmarker"].matches(face_landmarker)


def test_a_bundle_in_the_cache_is_not_fetched_again(
    own_cache: Path, face_landmarker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = target_path("face_landmarker")
    assert own_cache in path.parents
    path.parent.mkdir(parents=True)
    path.write_bytes(face_landmarker.read_bytes())
    assert run("fetch", "face_landmarker") == 0
    assert "already" in capsys.readouterr().out


class Hub(http.server.BaseHTTPRequestHandler):
    """A repository of the hub: revision and digest of a file in its headers, then its bytes."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.wfile.write(self.answer())

    def answer(self) -> bytes:
        assert isinstance(self.server, HubServer)
        self.server.requested.append(self.path)
        body = self.server.files.get(self.path.rpartition("/")[2])
        if body is None or f"/resolve/{REVISION}/" not in self.path:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return b""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.end_headers()
        return body

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


REVISION = CHECKPOINTS["liveportrait"].revision


class HubServer(http.server.ThreadingHTTPServer):
    """A server of files by the last part of their path."""

    files: dict[str, bytes]
    requested: list[str]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    needs("torch")
    needs("huggingface_hub")
    with HubServer(("127.0.0.1", 0), Hub) as serving:
        serving.files, serving.requested = {}, []
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{serving.server_address[1]}")
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def extractor() -> bytes:
    """Return a checkpoint with the names and shapes of LivePortrait's smallest large file."""
    import torch

    from engines.networks.weights import load_weights

    buffer = io.BytesIO()
    torch.save(load_weights("liveportrait", "random:1").parts["appearance_feature_extractor"].state_dict(), buffer)
    return buffer.getvalue()


def checkpoint_with(first: bytes) -> Checkpoint:
    """Return the published checkpoint with ``first`` as the content of its first file."""
    checkpoint = CHECKPOINTS["liveportrait"]
    file = replace(checkpoint.files[0], size=len(first), sha256=hashlib.sha256(first).hexdigest())
    return replace(checkpoint, files=(file, *checkpoint.files[1:]))


def test_a_checkpoint_comes_from_the_hub_file_by_file(hub: HubServer, own_cache: Path) -> None:
    body = extractor()
    hub.files["appearance_feature_extractor.pth"] = body
    notices: list[str] = []
    for _ in range(2):
        with pytest.raises(ReenactError) as caught:
            fetch_from_hub(checkpoint_with(body), notices.append)
        assert caught.value.code == "download-failed"
        assert "motion_extractor.pth" in caught.value.found
        assert "--from FOLDER" in caught.value.cure
    assert "is correct" in notices[0]
    assert "already" in notices[1]
    home = own_cache / "reenact" / "models" / "liveportrait"
    assert names_in(home) == [
        "appearance_feature_extractor.safetensors",
        "appearance_feature_extractor.safetensors.sha256",
    ]
    assert any(f"/KwaiVGI/LivePortrait/resolve/{REVISION}/liveportrait/base_models/" in path for path in hub.requested)


def test_a_file_from_the_hub_must_be_the_published_one(hub: HubServer, own_cache: Path) -> None:
    hub.files["appearance_feature_extractor.pth"] = b"another file"
    with pytest.raises(ReenactError) as caught:
        fetch_from_hub(CHECKPOINTS["liveportrait"], lambda _: None)
    assert caught.value.code == "download-differs"
    assert "appearance_feature_extractor" in caught.value.found
    assert names_in(own_cache / "reenact" / "models" / "liveportrait") == []


def test_the_licence_is_shown_first_and_must_be_accepted(
    hub: HubServer, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fetch", "liveportrait") == 2
    printed = capsys.readouterr()
    assert "Permission is hereby granted" in printed.out
    assert "--accept-licence" in printed.err
    assert hub.requested == []
    assert run("fetch", "liveportrait", "--accept-licence") == 1
    assert "Permission is hereby granted" in capsys.readouterr().out
    assert hub.requested
    assert own_cache in target_path("face_landmarker").parents


def test_fomm_is_imported_from_a_path(own_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = needs("torch")
    assert run("fetch", "fomm") == 2
    assert "--from" in capsys.readouterr().err
    assert run("fetch", "fomm", "--from", str(tmp_path / "none.tar")) == 2
    assert "none.tar" in capsys.readouterr().err
    from engines.networks.weights import load_weights

    states = {name: part.state_dict() for name, part in load_weights("fomm", "random:1").parts.items()}
    path = tmp_path / "vox-cpk.pth.tar"
    torch.save({**states, "optimizer_generator": {"state": {}}, "epoch": 1}, path)
    assert run("where", "fomm") == 1
    assert "vox-cpk.pth.tar" in capsys.readouterr().err
    assert run("fetch", "fomm", "--from", str(path)) == 0
    capsys.readouterr()
    assert run("where", "fomm") == 0
    assert own_cache in Path(capsys.readouterr().out.strip()).parents
    assert load_weights("fomm").label == "published"
    path.write_bytes(b"<html>")
    assert run("fetch", "fomm", "--from", str(path)) == 1
    assert "web page" in capsys.readouterr().err


def test_from_is_wrong_usage_for_a_downloaded_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fetch", "face_landmarker", "--from", "x") == 2
    assert "--from" in capsys.readouterr().err
