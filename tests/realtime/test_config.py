from __future__ import annotations

import os
import sys
import threading
import tomllib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import ConfigError
from realtime.config import TOKEN_VARIABLE, Config, address, allowed, load


def toml(folder: Path, text: str) -> Path:
    path = folder / "reenact.toml"
    path.write_text(text, "utf-8")
    return path


def refused(options: Mapping[str, object], path: Path | None = None) -> ConfigError:
    """Return the error that loading the options raises."""
    with pytest.raises(ConfigError) as caught:
        load(options, path)
    return caught.value


def test_defaults() -> None:
    config = load({})
    assert config == Config()
    assert (config.camera, config.size, config.pace, config.sink) == ("auto", (1280, 720), "live", ("auto",))


def test_every_key_from_a_file(tmp_path: Path) -> None:
    path = toml(
        tmp_path,
        """
        camera = "driver.mp4"
        portrait = ["a.png", "b.jpg"]
        fit = "extend"
        background = "#00ff00"
        generator = "mesh"
        backend = "onnx"
        device = "cpu"
        compile = true
        weights = "random:1"
        sink = ["virtualcam:/dev/video3", "file:out.mp4", "null"]
        size = "640x480"
        fps = 25
        pace = "max"
        frames = 100
        duration = 4.5
        neutral = "first"
        region = "pose"
        retarget = "both"
        expression = { smile = 0.4, AU1 = 0.2 }
        record_motion = "take.csv"
        mix = { eyes = "fixed" }
        gain = 1.5
        mouth = "painted"
        refine = "on"
        mirror = true
        rotate = 180
        driver = 2
        tracker = "facemesh"
        model = "x.task"
        token = "let me in"
        token_file = "token.txt"
        https = "auto"
        stream_key = "live key"
        stream_key_file = "key.txt"
        sessions = 3
        ice_server = ["stun:stun.example.org", { url = "turn:turn.example.org", secret = "s" }]
        server_name = ["portrait.example", "other.example:8443"]
        bitrate = 4000
        label = "de"
        consent = "self"
        jitter_mend = false
        relay_code = true
        report = "report.json"
        quiet = true
        """,
    )
    config = Config.model_validate(tomllib.loads(path.read_text()))
    assert set(config.model_fields_set) == set(Config.model_fields)
    assert config.ice_server[1].credentials(0.0) is not None
    assert config.portrait == (Path("a.png"), Path("b.jpg"))
    assert (config.size, config.fps, config.mirror) == ((640, 480), 25.0, True)


def test_the_token_comes_from_an_option_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("from the file\n")
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert load({}).token is None
    assert load({"token_file": str(file)}).token == "from the file"
    monkeypatch.setenv(TOKEN_VARIABLE, "from outside")
    assert load({}).token == "from outside"
    assert load({"token": "given"}).token == "given"
    assert load({"token_file": str(file)}).token == "from the file"
    assert refused({"token": "given", "token_file": str(file)}).code == "config-token-twice"
    assert refused({"token_file": str(tmp_path / "nowhere")}).code == "config-token-unreadable"
    file.write_text(" \n")
    assert refused({"token_file": str(file)}).code == "config-token-empty"


def test_no_secret_is_printed_or_reported() -> None:
    config = load({"token": "hush-hush", "ice_server": ["turn:turn.example.org,me,hush-hush"]})
    assert "hush-hush" not in repr(config)
    assert "hush-hush" not in config.model_dump_json()
    for bad in (
        {"ice_server": ["http://hush-hush"]},
        {"ice_server": ["turn:x,hush-hush"]},
        {"ice_server": [{"url": "turn:x", "secrt": "hush-hush"}]},
        {"ice_server": [{"url": "turn:x", "secret": "hush-hush", "lifetime_s": "a"}]},
        {"ice_server": [{"url": "turn:x", "secret": "hush-hush", "lifetime_s": 0}]},
    ):
        error = refused(bad)
        assert error.code == "config-bad-value"
        assert "hush-hush" not in f"{error} {error.cure}"


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("webrtc", ("127.0.0.1", 8080)),
        ("webrtc:9000", ("127.0.0.1", 9000)),
        ("webrtc:0.0.0.0:80", ("0.0.0.0", 80)),
        ("webrtc:[::1]:0", ("::1", 0)),
    ],
)
def test_where_the_page_is_served(spec: str, found: tuple[str, int]) -> None:
    assert address(spec) == found
    assert load({"sink": [spec]}).sink == (spec,)


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    path = toml(tmp_path, 'size = "640x480"\ngain = 2.0\nsink = ["null"]\nmirror = true\n')
    config = load({"gain": 0.5, "sink": [], "mirror": False, "fps": None}, path)
    assert (config.gain, config.size, config.sink, config.mirror) == (0.5, (640, 480), ("null",), False)


def test_a_token_on_the_command_line_wins_over_the_file_however_it_is_given(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from a file")
    named, written = toml(tmp_path, f'token_file = "{file.as_posix()}"'), tmp_path / "other.toml"
    written.write_text('token = "written"')
    assert load({"token": "given"}, named).token == "given"
    assert load({"token_file": str(file)}, written).token == "from a file"
    written.write_text(f'token = "written"\ntoken_file = "{file.as_posix()}"')
    assert refused({}, written).code == "config-token-twice"


def test_one_value_stands_for_a_list_of_one(tmp_path: Path) -> None:
    config = load({}, toml(tmp_path, 'sink = "null"\nportrait = "a.png"\ncamera = 2\n'))
    assert (config.sink, config.portrait, config.camera) == (("null",), (Path("a.png"),), "2")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("camera", ""),
        ("camera", -1),
        ("camera", True),
        ("camera", "a\0b"),
        ("portrait", ["a\0b"]),
        ("weights", "a\0b"),
        ("weights", ""),
        ("sink", ["file:a\0b.mp4"]),
        ("generator", "magic"),
        ("sink", ["vircam"]),
        ("sink", ["webrtc:here"]),
        ("sink", ["webrtc:127.0.0.1:70000"]),
        ("sink", ["vmc:127.0.0.1:0"]),
        ("sink", ["vmc:127.0.0.1:70000"]),
        ("sink", ["osc:a.example:65536"]),
        ("sink", ["osc:9000"]),
        ("sink", ["vmc::9000"]),
        ("sessions", 0),
        ("bitrate", 1),
        ("sink", ["file:"]),
        ("sink", ["file:."]),
        ("sink", ["file:/"]),
        ("sink", ["file:a/.."]),
        ("sink", ["null", 3]),
        ("size", "1280"),
        ("size", "1280x721"),
        ("size", "0x0"),
        ("size", "16x16"),
        ("size", "99999x99999"),
        ("size", "-640x480"),
        ("size", [640, 480]),
        ("fps", 0),
        ("fps", -30.0),
        ("fps", 241),
        ("fps", float("nan")),
        ("fps", float("inf")),
        ("fps", "30"),
        ("fps", True),
        ("pace", "fast"),
        ("frames", 0),
        ("frames", 1.5),
        ("duration", 0.0),
        ("duration", -1),
        ("duration", 1e300),
        ("neutral", "second"),
        ("region", "nose"),
        ("retarget", "brows"),
        ("retarget", True),
        ("gain", 4.01),
        ("gain", -0.1),
        ("mouth", "none"),
        ("mirror", "yes"),
        ("mirror", 1),
        ("tracker", "dlib"),
        ("report", ""),
        ("report", 7),
        ("portrait", [1]),
        ("portrait", 1),
        ("quiet", 0),
    ],
)
def test_a_bad_value_names_the_option_and_what_is_allowed(key: str, value: object) -> None:
    error = refused({key: value})
    shown = value[-1] if isinstance(value, list) and key != "size" else value
    assert error.code == "config-bad-value"
    assert error.found == f"--{key} {shown!r}"
    assert error.expected == allowed(key)


def test_an_unknown_key_suggests_a_close_one(tmp_path: Path) -> None:
    error = refused({}, toml(tmp_path, 'portrit = "a.png"'))
    assert error.code == "config-unknown-key"
    assert error.cure == "did you mean portrait?"


def test_choices_are_listed_as_words() -> None:
    assert refused({"region": "lips"}).expected == "all, expression or pose"
    assert allowed("pace") == "live or max"


@pytest.mark.parametrize("name", ["server", "gain"])
def test_a_table_is_no_misspelt_key(tmp_path: Path, name: str) -> None:
    error = refused({}, toml(tmp_path, f"[{name}]\nport = 1"))
    assert error.code == "config-table"
    assert f"[{name}]" in error.found
    assert "did you mean" not in error.cure


def test_an_unknown_key_like_no_other_lists_them_all(tmp_path: Path) -> None:
    error = refused({}, toml(tmp_path, "zzzzqqq = 1"))
    assert all(key in error.cure for key in Config.model_fields)


def test_a_wrong_value_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = toml(tmp_path, "gain = 9")
    assert refused({}, path).found == f"gain = 9 in {path}"


@pytest.mark.parametrize(
    "content",
    [b"size = ", b"\xff\xfe\x00", b"[[[", b"size = 1280x720", b"frames = " + b"9" * 5000, b"sink = " + b"[" * 3000],
    ids=lambda content: content[:12],
)
def test_a_file_that_is_not_toml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    assert refused({}, path).code == "config-file-not-toml"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    error = refused({}, tmp_path / "none.toml")
    assert (error.code, error.expected, error.cure) == ("config-file-missing", "", "check --config")
    assert refused({}, tmp_path).code == "config-file-unreadable"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize("code", ["config-file-unreadable", "config-token-unreadable"])
def test_a_pipe_without_a_writer_is_an_error_and_not_waited_for(tmp_path: Path, code: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    rescue = threading.Timer(10, lambda: os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)))
    rescue.start()
    try:
        error = refused({}, pipe) if code == "config-file-unreadable" else refused({"token_file": str(pipe)})
        assert error.code == code
    finally:
        rescue.cancel()


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no process substitution")
@pytest.mark.parametrize("early", [True, False])
def test_the_output_of_another_program_is_read_as_a_file(early: bool) -> None:
    reader, writer = os.pipe()
    with ThreadPoolExecutor(1) as pool, open(reader), open(writer, "wb", buffering=0) as program:
        if early:
            program.write(b"gain = 2.0")
            program.close()
        loading = pool.submit(load, {}, Path(f"/dev/fd/{reader}"))
        if not early:
            program.write(b"gain = 2.0")
            program.close()
        assert loading.result(10).gain == 2


@pytest.mark.parametrize("camera", ["auto", "0", "/dev/video2", "/dev/v4l/by-id/usb-cam-index0", "webrtc"])
def test_the_highest_pace_needs_a_file(camera: str) -> None:
    assert refused({"pace": "max", "camera": camera}).code == "config-pace-needs-file"


@pytest.mark.parametrize("sink", ["vmc:127.0.0.1:39539", "osc:127.0.0.1:9000"])
def test_the_faces_of_several_browsers_do_not_go_to_one_program(sink: str) -> None:
    error = refused({"camera": "webrtc", "sink": ["webrtc", sink]})
    assert error.code == "config-faces-with-webrtc"
    assert load({"camera": "0", "sink": ["webrtc", sink]}).sink == ("webrtc", sink)


@pytest.mark.parametrize("sink", ["webrtc", "webrtc:9000"])
def test_the_highest_pace_is_not_for_viewers(sink: str) -> None:
    assert refused({"pace": "max", "camera": "in.mp4", "sink": ["null", sink]}).code == "config-pace-with-webrtc"
    assert load({"camera": "in.mp4", "sink": ["null", sink]}).sink == ("null", sink)


@pytest.mark.parametrize(
    ("generator", "regions"),
    [
        ("mesh", {"all", "expression", "pose"}),
        ("fomm", {"all"}),
        ("liveportrait", {"all", "expression", "pose", "lips", "eyes"}),
    ],
)
def test_each_generator_has_its_regions(generator: str, regions: set[str]) -> None:
    for region in ("all", "expression", "pose", "lips", "eyes"):
        if region in regions:
            assert load({"generator": generator, "region": region}).region == region
            continue
        error = refused({"generator": generator, "region": region})
        assert error.code == "config-region-not-available"
        assert all(each in error.expected for each in regions)


def test_the_page_is_served_at_one_address() -> None:
    assert refused({"sink": ["webrtc", "null", "webrtc:9000"]}).code == "config-two-addresses"


@pytest.mark.parametrize("generator", ["mesh", "fomm"])
def test_only_liveportrait_retargets(generator: str) -> None:
    assert load({"generator": generator}).retarget == "none"
    assert load({"generator": "liveportrait", "retarget": "both"}).retarget == "both"
    error = refused({"generator": generator, "retarget": "eyes"})
    assert error.code == "config-retarget-not-available"
    assert error.expected == "--generator liveportrait"


def test_the_highest_pace_with_the_performer_needs_an_end() -> None:
    assert refused({"pace": "max", "camera": "performer"}).code == "config-pace-never-ends"
    assert load({"pace": "max", "camera": "performer", "frames": 10}).frames == 10


@pytest.mark.parametrize(
    "options",
    [
        {"camera": "in.mp4", "sink": ["file:in.mp4"]},
        {"portrait": ["a.png"], "sink": ["file:./a.png"]},
        {"sink": ["file:out.mp4", "file:./out.mp4"]},
        {"camera": "in.mp4", "report": "in.mp4"},
        {"camera": "clip@home.mp4", "sink": ["file:clip@home.mp4"]},
        {"camera": "~/in.mp4", "sink": ["file:~/in.mp4"]},
        {"camera": "motion:a@b.csv", "record_motion": "a@b.csv"},
        {"camera": "motion:~/take.csv@1.5", "record_motion": "~/take.csv"},
        {"record_motion": "take.csv", "report": "take.json"},
        {"sink": ["file:out.json"], "report": "out.json"},
        {"camera": "reenact.mp4", "pace": "max"},
        {"camera": "performer", "pace": "max", "frames": 1, "sink": ["auto", "file:reenact.mp4"]},
        {"model": "a.task", "report": "a.task"},
        {"weights": "a.pth", "report": "./a.pth"},
        {"token_file": "token", "report": "token"},
    ],
)
def test_nothing_that_is_read_is_written_over(options: dict[str, object]) -> None:
    assert refused(options).code == "config-overwrites"


def test_the_file_of_options_is_not_written_over(tmp_path: Path) -> None:
    path = toml(tmp_path, 'report = "reenact.toml"')
    assert refused({"report": str(path)}, path).code == "config-overwrites"


def test_what_a_link_leads_to_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").symlink_to(tmp_path / "in.mp4")
    options = {"camera": str(tmp_path / "in.mp4"), "sink": [f"file:{tmp_path / 'out.mp4'}"]}
    assert refused(options).code == "config-overwrites"


def test_a_live_run_records_only_on_request() -> None:
    assert load({"camera": "reenact.mp4"}).sink == ("auto",)


@pytest.mark.skipif(sys.platform == "win32", reason="no links and no such folders")
def test_paths_that_lead_nowhere_are_left_to_the_code_that_opens_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ring").symlink_to("ring")
    assert load({"camera": str(tmp_path / "ring")}).camera == str(tmp_path / "ring")
    deleted = tmp_path / "deleted"
    deleted.mkdir()
    monkeypatch.chdir(deleted)
    deleted.rmdir()
    assert refused({"camera": "in.mp4", "sink": ["file:in.mp4"]}).code == "config-overwrites"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("portrait", ["~no-such-user/x.jpg"]),
        ("sink", ["file:~no-such-user/x.jpg"]),
        ("camera", "~no-such-user/x.jpg"),
        ("camera", "motion:~no-such-user/x.csv"),
        ("weights", "~no-such-user/x.jpg"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="any name may have a home folder there")
def test_a_home_folder_that_does_not_exist(key: str, value: object) -> None:
    assert refused({key: value}).code == "path-no-home"


def test_the_home_folder_is_written_out_wherever_a_path_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    config = load({"camera": "~/in.mp4", "portrait": ["~/a.png"]})
    assert (Path(config.camera), config.portrait) == (tmp_path / "in.mp4", (tmp_path / "a.png",))


def test_a_file_that_begins_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "windows.toml"
    path.write_text("gain = 2.0", "utf-8-sig")
    assert load({}, path).gain == 2


KEYS = st.sampled_from(sorted(Config.model_fields))
WORDS = st.sampled_from(["", "auto", "null", "1280x720", "65x64", "mesh", "pose", "file:x", "9", "\n", "é"])
VALUES = st.booleans() | st.floats() | st.integers() | WORDS | st.lists(WORDS, max_size=2)


@given(st.dictionaries(KEYS, VALUES, max_size=3))
def test_any_value_is_accepted_or_a_config_error_with_a_cure(options: dict[str, object]) -> None:
    try:
        config = load(options)
    except ConfigError as error:
        caught = error
    else:
        assert config.size[0] % 2 == 0
        return
    assert str(caught)
    assert caught.cure


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("gain", "a number from 0 to 4"),
        ("frames", "a whole number from 1 on"),
        ("duration", "a number above 0 to 100000000"),
        ("pace", "live or max"),
        ("generator", "mesh, liveportrait or fomm"),
        ("mirror", "true or false"),
    ],
)
def test_what_is_allowed_follows_from_the_type(key: str, words: str) -> None:
    assert allowed(key) == words


@pytest.mark.parametrize(("value", "expected"), [("left", "left"), ("2", 2), (3, 3), ("auto", "auto")])
def test_the_driver_is_a_word_or_a_number(value: object, expected: object) -> None:
    assert load({"driver": value}).driver == expected


@pytest.mark.parametrize("value", ["0", "9", "up", "", True, 1.5])
def test_another_driver_is_refused(value: object) -> None:
    assert refused({"driver": value}).code == "config-bad-value"
    assert refused({"rotate": "45"}).code == "config-bad-value"
