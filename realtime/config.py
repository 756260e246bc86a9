"""One typed configuration out of a TOML file and the command line; an error names the key, and what is allowed."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from engines.errors import ConfigError, UsageError, one_of
from engines.generator import DIRECTED, GENERATORS, REGIONS_OF, TRANSPARENT, Mouth, Region
from engines.install_hint import command
from realtime.core import paths
from realtime.core.host_port import parse_host_port
from realtime.marking import LabelOption
from realtime.motion.settings import MAX_GAIN, NeutralMode
from realtime.portraits.consent import Right
from realtime.portraits.settings import Fit
from realtime.streams.target import is_target, shown_camera
from realtime.tracking.settings import DRIVERS, MAX_FACES, FixedDriver, Rotation, parse_driver
from realtime.webrtc.settings import IceServer

GROUPS = ("Driving video", "Portrait", "Motion", "Output", "Networks", "Server", "Other")
"""The groups of options, in the order of ``--help``."""
SECRETS = ("token", "stream_key", "ice_server")
"""Keys whose values are never printed."""
_ADDRESSES = ("camera", "sink")
"""Keys whose values may be addresses, which may have a password or a key in them."""
AUTO_RECORDING = Path("reenact.mp4")
"""What the sink ``auto`` writes at the highest pace."""
TOKEN_VARIABLE = "REENACT_TOKEN"
STREAM_KEY_VARIABLE = "REENACT_STREAM_KEY"
DEFAULT_ADDRESS = ("127.0.0.1", 8080)
"""The host and port of the page."""
_ALTERNATIVES = (
    ("token", "token_file"),
    ("token_file", "token"),
    ("stream_key", "stream_key_file"),
    ("stream_key_file", "stream_key"),
)
"""Pairs of keys that set the same: the first on the command line overrides the second in a file."""
_MIN_SIDE, _MAX_SIDE = 64, 4096
_SINK = re.compile(r"auto|null|virtualcam(:.+)?|file:.+|webrtc(:.+)?|(whip|rtmps?):.+|(vmc|osc):.+", re.DOTALL)
_ICE_SERVER = {"url": str, "username": str, "credential": str, "secret": str, "lifetime_s": int}
_SECRET_ADDRESS = re.compile(r"://|\b(whip|rtmp)", re.IGNORECASE)
"""What is in a value that may be meant as an address; a value that was refused cannot be taken apart."""
_TRACKING = ("motion:", "vmc:", "livelink:", "ifacialmocap:")
"""How the names of sources begin that have no picture."""
FACE_SINKS = ("vmc:", "osc:")
"""How the names of sinks begin that are sent what the driver's face does, and no picture."""
_LIVE_CAMERA = re.compile(r"auto|\d+|/dev/(video\d+|v4l/.+)|webrtc|(vmc|livelink|ifacialmocap):.+|(rtsps?|https?)://.+")
"""Cameras that are known to be live before they are opened; a part of a camera's name is not."""


def _size(value: object) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not WxH")
    width, height = int(match[1]), int(match[2])
    if any(side % 2 or not _MIN_SIDE <= side <= _MAX_SIDE for side in (width, height)):
        raise ValueError("odd or out of range")
    return width, height


def _several(value: object) -> tuple[object, ...]:
    if isinstance(value, str | Path):
        return (value,)
    if isinstance(value, list | tuple):
        return tuple(value)
    raise ValueError("not a list")


def _path(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError("not a path")
    return paths.expand(value)


def _camera(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("not a camera")
    return str(paths.expand(value)) if value.startswith("~") else value


def _sink(value: object) -> str:
    if not isinstance(value, str) or not _SINK.fullmatch(value) or "\0" in value:
        raise ValueError("not a sink")
    if value.startswith("file:") and paths.expand(value[5:]).name in ("", ".."):
        raise ValueError("not a file")
    if value.startswith("webrtc:"):
        address(value)
    if value.startswith(("whip:", "rtmp:", "rtmps:")) and not is_target(value):
        raise ValueError("not an address")
    if value.startswith(FACE_SINKS):
        parse_host_port(value.partition(":")[2])
    return value


def address(spec: str) -> tuple[str, int]:
    """Return host and port of ``webrtc[:[HOST:]PORT]``. Raises ValueError."""
    if spec == "webrtc":
        return DEFAULT_ADDRESS
    # port 0 is any that is free
    return parse_host_port(spec.partition(":")[2], DEFAULT_ADDRESS[0], lowest_port=0)


def _ice_server(value: object) -> IceServer:
    if isinstance(value, IceServer):
        return value
    if isinstance(value, str):
        url, *rest = value.split(",")
        if len(rest) not in (0, 2):
            raise ValueError("not URL or URL,USER,PASSWORD")
        value = dict(zip(("url", "username", "credential"), (url, *rest), strict=False))
    if not isinstance(value, dict) or any(type(each) is not _ICE_SERVER.get(key) for key, each in value.items()):
        raise ValueError("not an ICE server")
    if value.get("lifetime_s", 1) < 1:
        raise ValueError("credentials that are never valid")
    try:
        return IceServer(**value)
    except (TypeError, UsageError) as error:
        raise ValueError(str(error)) from None


def _settings(value: object) -> tuple[object, ...]:
    return tuple(f"{key}={each}" for key, each in value.items()) if isinstance(value, dict) else _several(value)


def _background(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("not a background")
    return value


def _rotation(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _generator(value: object) -> str:
    if value not in GENERATORS:
        raise ValueError("not a generator")
    return str(value)


def _option(
    group: str, default: Any, help_text: str, *, metavar: str = "", allowed: str = "", **constraints: Any
) -> Any:
    """Return the field of an option. ``metavar`` and ``allowed`` are derived from the type where that is possible."""
    extra: dict[str, Any] = {"group": group, "metavar": metavar, "allowed": allowed}
    return Field(default=default, description=help_text, json_schema_extra=extra, **constraints)


_Path = Annotated[Path, BeforeValidator(_path)]
_Generator = Annotated[str, BeforeValidator(_generator)]
_Sink = Annotated[str, BeforeValidator(_sink)]
_IceServer = Annotated[IceServer, BeforeValidator(_ice_server)]
_Setting = Annotated[str, Field(pattern=r"^[^=]+=[^=]+$", max_length=100)]
_ServerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+(:\d{1,5})?$")]


class Config(BaseModel):
    """The configuration of the program. Options of the command line and keys of the TOML file are its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    camera: Annotated[str, BeforeValidator(_camera)] = _option(
        "Driving video",
        "auto",
        "a camera by its number, device or part of its name (Linux), a video file, performer (a scripted face), "
        "webrtc (browsers), a camera's address, a recorded motion (motion:FILE.csv[@SECONDS]), or a program that "
        "tracks a face (vmc:[HOST:]PORT, livelink:[HOST:]PORT, ifacialmocap:HOST)",
        metavar="auto|INDEX|/dev/videoN|NAME|FILE|URL|performer|webrtc|motion:...|vmc:...",
        allowed="auto, a camera's number, /dev/videoN, part of a camera's name, a video file, rtsp://..., http://..., "
        "performer, webrtc, motion:FILE.csv, vmc:PORT, livelink:PORT or ifacialmocap:HOST",
    )
    fps: float | None = _option(
        "Driving video", None, "frames per second, 1 to 240; as the camera by default", ge=1, le=240
    )
    pace: Literal["live", "max"] = _option(
        "Driving video", "live", "live: as a camera, the newest frame wins; max: every frame of a file, in order"
    )
    mirror: bool = _option("Driving video", False, "flip the driving video left to right")
    rotate: Annotated[Rotation, BeforeValidator(_rotation)] = _option(
        "Driving video",
        "auto",
        "degrees by which the driving video is turned clockwise; auto finds out from the faces in it",
    )
    driver: Annotated[FixedDriver, BeforeValidator(parse_driver)] = _option(
        "Driving video",
        "auto",
        "the face that drives, if there are several: auto (large, central, moving), or the N-th from the left",
        metavar="|".join((*DRIVERS, "N")),
        allowed=one_of((*DRIVERS, f"a whole number from 1 to {MAX_FACES}")),
    )
    tracker: Literal["auto", "facemesh", "landmarker"] = _option("Driving video", "auto", "what tracks the face")
    model: _Path | None = _option(
        "Driving video", None, "the landmarker's model file", metavar="FILE.task", allowed="a face_landmarker.task file"
    )

    portrait: Annotated[tuple[_Path, ...], BeforeValidator(_several)] = _option(
        "Portrait",
        (),
        "a picture with a face, or the name of a bundled portrait; give several to switch between them with n and p",
        metavar="IMAGE|NAME",
        allowed="a picture file or the name of a bundled portrait",
    )
    consent: Right | None = _option(
        "Portrait",
        None,
        "what right you have to the portraits, asked for once: self (it shows you), agreed (who it shows has agreed), "
        "fictional (no one who lives)",
        metavar="self|agreed|fictional",
        allowed="self, agreed or fictional",
    )
    fit: Fit = _option(
        "Portrait",
        "auto",
        "what to do where a picture's shape is another than the output's: crop it closely, extend its background, or "
        "show it whole over a blurred enlargement; auto takes what looks best",
    )
    background: Annotated[str, BeforeValidator(_background)] = _option(
        "Portrait",
        "keep",
        "what is behind the portrait: its own background, that blurred, a colour, an image, or nothing (transparent, "
        "green where a sink has no alpha)",
        metavar="keep|blur|COLOUR|IMAGE|transparent[:COLOUR]",
        allowed="keep, blur, transparent, transparent:COLOUR, a colour such as green or #00ff00, or an image file",
    )
    generator: _Generator = _option(
        "Portrait",
        "mesh",
        "what makes the picture: mesh runs on any CPU, the others are networks",
        metavar="|".join(GENERATORS),
    )
    mouth: Mouth = _option(
        "Portrait",
        "driver",
        "inside of an open mouth: the driver's own, made up by a network, or painted (neither shows your camera); mesh",
    )
    refine: Literal["auto", "on", "off"] = _option(
        "Portrait", "auto", "a network that repairs lowered lids; auto: where this machine is fast enough; mesh"
    )

    neutral: NeutralMode = _option(
        "Motion",
        "auto",
        "motion is relative to your face at the portrait's expression (estimated), or to your first face",
    )
    gain: float = _option("Motion", 1.0, f"strength of the expression, 0 to {MAX_GAIN:g}", ge=0, le=MAX_GAIN)
    region: Region = _option("Motion", "all", "what moves; lips and eyes with liveportrait only")
    retarget: Literal["none", "eyes", "lips", "both"] = _option(
        "Motion", "none", "what closes fully when the driver's does; liveportrait"
    )

    expression: Annotated[tuple[_Setting, ...], BeforeValidator(_settings)] = _option(
        "Motion",
        (),
        "what is added to your expression, -1 to 1, such as smile=0.4; in TOML also a table",
        metavar="NAME=VALUE",
        allowed="NAME=VALUE with a value from -1 to 1, such as smile=0.4 or AU12=0.4",
    )
    mix: Annotated[tuple[_Setting, ...], BeforeValidator(_settings)] = _option(
        "Motion",
        (),
        "what moves a part of the face (mouth, eyes, brows, cheeks, head), such as eyes=fixed: driver, added or fixed",
        metavar="PART=MIX",
        allowed="PART=MIX with mouth, eyes, brows, cheeks or head, and driver, added or fixed",
    )

    record_motion: _Path | None = _option(
        "Motion",
        None,
        "write what your face does to this file, and no picture of it; motion:FILE.csv plays it",
        metavar="FILE.csv",
        allowed="a file whose name ends in .csv",
    )

    sink: Annotated[tuple[_Sink, ...], BeforeValidator(_several)] = _option(
        "Output",
        ("auto",),
        "where the result goes, to several places if several are given: a virtual camera, browsers, a recording (.mp4, "
        ".webm, a numbered .png), a server, or a program that moves avatars (vmc:HOST:PORT, osc:HOST:PORT)",
        metavar="auto|virtualcam[:DEVICE]|webrtc[:HOST:PORT]|file:OUT|whip:URL|rtmp://...|vmc:...|null",
        allowed="auto, virtualcam, virtualcam:DEVICE, webrtc, webrtc:HOST:PORT, file:OUT.mp4, file:OUT.webm, "
        "file:%05d.png, whip:https://HOST/PATH, rtmp://HOST/APP, rtmps://HOST/APP, vmc:HOST:PORT, "
        "osc:HOST:PORT or null",
        min_length=1,
    )
    stream_key: str | None = _option(
        "Output",
        None,
        f"the key of an RTMP stream or the bearer token of WHIP; also read from {STREAM_KEY_VARIABLE}",
        metavar="TEXT",
        allowed="some text",
        min_length=1,
        repr=False,
        exclude=True,
    )
    stream_key_file: _Path | None = _option(
        "Output", None, "a file that contains that key", metavar="FILE", allowed="a file that contains the key"
    )
    size: Annotated[tuple[int, int], BeforeValidator(_size)] = _option(
        "Output",
        (1280, 720),
        f"width and height, both even, {_MIN_SIDE} to {_MAX_SIDE}",
        metavar="WxH",
        allowed=f"WIDTHxHEIGHT, both even and {_MIN_SIDE} to {_MAX_SIDE}, such as 1280x720",
    )
    label: LabelOption = _option(
        "Output",
        "auto",
        "the words in a corner that say that the picture is generated: auto takes your language; off leaves them out, "
        "which the law may not allow you to do",
    )
    frames: int | None = _option("Output", None, "end after this many frames", metavar="N", ge=1)
    duration: float | None = _option("Output", None, "end after this many seconds", metavar="SECONDS", gt=0, le=1e8)

    backend: Literal["auto", "torch", "onnx", "tensorrt"] = _option("Networks", "auto", "what runs the networks")
    device: Literal["auto", "cpu", "cuda", "rtx"] = _option(
        "Networks", "auto", "where they run; rtx is TensorRT for RTX in ONNX Runtime"
    )
    compile: bool = _option("Networks", False, "optimize the networks with torch.compile first, which takes minutes")
    weights: str | None = _option(
        "Networks",
        None,
        "the networks' weights: a folder or file, or random:SEED for trying out",
        metavar="PATH|random:SEED",
        allowed="a folder, a file or random:SEED",
        pattern=r"^[^\x00]+$",
    )

    token: str | None = _option(
        "Server",
        None,
        f"the token that opens the page; also read from {TOKEN_VARIABLE}",
        metavar="TEXT",
        allowed="some text",
        min_length=1,
        repr=False,
        exclude=True,
    )
    token_file: _Path | None = _option(
        "Server", None, "a file that contains the token", metavar="FILE", allowed="a file that contains the token"
    )
    https: str = _option(
        "Server",
        "off",
        "serve over HTTPS, as browsers on other devices want it for a camera: with a certificate that this machine "
        "makes for itself, of which they warn, or with yours",
        metavar="off|auto|FILE.pem",
        allowed="off, auto, or a PEM file with a certificate and its private key",
        min_length=1,
    )
    sessions: int | None = _option(
        "Server", None, "how many browsers may drive at once, 1 to 64; measured by default", metavar="N", ge=1, le=64
    )
    ice_server: Annotated[tuple[_IceServer, ...], BeforeValidator(_several)] = _option(
        "Server",
        (),
        "a STUN or TURN server; in TOML also a table with url and secret",
        metavar="URL[,USER,PASSWORD]",
        allowed="stun:HOST or turn:HOST,USER,PASSWORD; in TOML also a table with url and secret",
        exclude=True,
    )
    server_name: Annotated[tuple[_ServerName, ...], BeforeValidator(_several)] = _option(
        "Server",
        (),
        "another name that the page is opened under, such as a proxy's",
        metavar="NAME[:PORT]",
        allowed="NAME or NAME:PORT",
    )
    bitrate: int = _option(
        "Server",
        6000,
        "most kilobits of video per second, 100 to 100000",
        metavar="KBIT",
        ge=100,
        le=100_000,
    )
    jitter_mend: bool = _option(
        "Server", True, "show a frame when its last packet arrives, not when the next frame begins"
    )

    relay_code: bool = _option("Other", False, "carry the code of the latency benchmark over to the output")
    report: _Path | None = _option(
        "Other", None, "write statistics of the run to this JSON file", metavar="OUT.json", allowed="a file"
    )
    quiet: bool = _option("Other", False, "print errors only")


def portrait_fit(config: Config) -> Fit:
    """Return how pictures are fitted. Except with the background ``keep``, ``auto`` means ``extend``."""
    return "extend" if config.fit == "auto" and config.background != "keep" else config.fit


def group(key: str) -> str:
    """Return the group of an option, one of ``GROUPS``."""
    return _hints(key)["group"]


def kind(key: str) -> Literal["flag", "list", "number", "text"]:
    """Return what an option takes."""
    annotation = Config.model_fields[key].annotation
    if annotation is bool:
        return "flag"
    if Ellipsis in get_args(annotation):
        return "list"
    return "number" if key not in ("size", "driver") and {int, float} & {annotation, *get_args(annotation)} else "text"


def metavar(key: str) -> str:
    """Return the placeholder of an option's value, such as ``live|max``; empty for a flag."""
    return _hints(key)["metavar"] or "|".join(_choices(key)) or ("N" if kind(key) == "number" else "")


def allowed(key: str) -> str:
    """Return the values that an option takes, in words."""
    if words := _hints(key)["allowed"]:
        return words
    if choices := _choices(key):
        return one_of(choices)
    return "true or false" if kind(key) == "flag" else _allowed_numbers(key)


def default(key: str) -> str:
    """Return the default of an option as it is written on the command line; empty for a flag, and if there is none."""
    value = Config.model_fields[key].default
    if key == "size":
        return "{}x{}".format(*value)
    if isinstance(value, tuple):
        return str(value[0]) if value else ""
    return "" if value is None or isinstance(value, bool) else str(value)


def _hints(key: str) -> dict[str, str]:
    hints: Any = Config.model_fields[key].json_schema_extra
    return dict(hints)


def _choices(key: str) -> tuple[str, ...]:
    """Return the values of an option that takes one of a few words; empty for any other."""
    if key == "generator":
        return GENERATORS
    annotation = Config.model_fields[key].annotation
    return tuple(get_args(annotation)) if get_origin(annotation) is Literal else ()


def _allowed_numbers(key: str) -> str:
    field = Config.model_fields[key]
    limits: dict[str, float] = {}
    for constraint in field.metadata:
        limits |= {name: getattr(constraint, name) for name in ("ge", "gt", "le") if hasattr(constraint, name)}
    number = "a whole number" if int in (field.annotation, *get_args(field.annotation)) else "a number"
    words = f"{number} above {limits['gt']:g}" if "gt" in limits else f"{number} from {limits['ge']:g}"
    return f"{words} to {limits['le']:.0f}" if "le" in limits else f"{words} on"


def load(options: Mapping[str, object], path: Path | None = None) -> Config:
    """Merge the command line over the TOML file at ``path`` and check the whole.

    ``options`` has the keys of Config; None stands for an option that was not given. Paths in the file are relative to
    the working directory, as on the command line. Raises ConfigError.
    """
    given = {key: value for key, value in options.items() if value is not None and value != []}
    in_file = _read_file(path) if path else {}
    for key, value in in_file.items():
        if isinstance(value, dict) and key not in ("ice_server", "expression", "mix"):
            cure = "tables are not used; write the keys at the top"
            raise ConfigError("config-table", f"the table [{key}] in {path}", cure=cure)
        if key not in Config.model_fields:
            raise _unknown_key(key, path)
    for key, alternative in _ALTERNATIVES:
        if key in given:
            in_file.pop(alternative, None)
    try:
        config = Config.model_validate(in_file | given)
    except ValidationError as error:
        raise _bad_value(error, given, path) from None
    _check_combinations(config)
    _check_files(config, path)
    config = _with_secret(config, "token", TOKEN_VARIABLE)
    return _with_secret(config, "stream_key", STREAM_KEY_VARIABLE)


def _with_secret(config: Config, key: str, variable: str) -> Config:
    """Return the configuration with a secret of its file, or of the environment if no option names one."""
    given: str | None = getattr(config, key)
    file: Path | None = getattr(config, f"{key}_file")
    name = option_name(key)
    if given is not None and file is not None:
        raise ConfigError("config-token-twice", f"both {name} and {name}-file", "one of them", "leave one out")
    secret = given
    if file is not None:
        cure = f"give a text file that contains the {name.removeprefix('--')}"
        try:
            secret = paths.read_text(file).strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            found = f"{name}-file: {file} cannot be read: {reason}"
            raise ConfigError("config-token-unreadable", found, cure=cure) from None
        if not secret:
            found = f"{name}-file: {file} is empty"
            raise ConfigError("config-token-empty", found, cure=f"write the {name.removeprefix('--')} into it")
    if secret is None:
        secret = os.environ.get(variable, "").strip() or None
    return config if secret == given else config.model_copy(update={key: secret})


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(paths.read_text(path))
    except FileNotFoundError:
        raise ConfigError("config-file-missing", f"no file {path}", cure="check --config") from None
    except OSError as error:
        found = f"--config: {path} cannot be read: {error.strerror}"
        raise ConfigError("config-file-unreadable", found, cure="give the path of a TOML file") from None
    except (ValueError, RecursionError) as error:
        known = isinstance(error, tomllib.TOMLDecodeError | UnicodeDecodeError)
        reason = error if known else "a number in it is too long, or it is nested too deeply"
        found = f"--config: {path} is not TOML: {reason}"
        cure = 'write one key per line, such as size = "1280x720"'
        raise ConfigError("config-file-not-toml", found, cure=cure) from None


def _unknown_key(key: str, path: Path | None) -> ConfigError:
    close = difflib.get_close_matches(key, Config.model_fields, n=1, cutoff=0.5)
    cure = f"did you mean {close[0]}?" if close else f"the keys are {', '.join(Config.model_fields)}"
    return ConfigError("config-unknown-key", f"the key {key!r} in {path}", "a name of an option", cure)


def _bad_value(error: ValidationError, given: Mapping[str, object], path: Path | None) -> ConfigError:
    first = error.errors()[0]
    key = str(first["loc"][0])
    value = first["input"]
    shown = str(value) if isinstance(value, Path) else repr(value)
    if value and (key in SECRETS or (key in _ADDRESSES and _SECRET_ADDRESS.search(str(value)))):
        shown = "a value that is not shown"
    where = f"{option_name(key)} {shown}" if key in given else f"{key} = {shown} in {path}"
    return ConfigError("config-bad-value", where, allowed(key), f"{command()} --help lists the options")


def option_name(key: str) -> str:
    """Return the name of an option on the command line."""
    return f"--{key.replace('_', '-')}"


def pace_needs_file(config: Config) -> ConfigError:
    """Return the error for ``--pace max`` with a live camera, which may be known only once it is open."""
    found = f"--pace max with --camera {shown_camera(config.camera)}, which is live"
    return ConfigError("config-pace-needs-file", found, "a video file", "give one with --camera, or leave --pace out")


def tracks_itself(camera: str) -> bool:
    """Return True for a source that has tracked the face itself, and has no picture."""
    return camera.startswith(_TRACKING)


def _check_tracked(config: Config) -> None:
    """Raise ConfigError for what does not go together with a source without pictures, and with a recorded motion."""
    if tracks_itself(config.camera) and config.generator not in DIRECTED:
        found = f"--camera {config.camera} with --generator {config.generator}"
        cure = "leave --generator out; networks need the driver's picture"
        raise ConfigError("config-camera-without-picture", found, one_of(DIRECTED), cure)
    if config.record_motion is not None:
        if config.record_motion.suffix.lower() != ".csv":
            found = f"--record-motion {config.record_motion}"
            raise ConfigError("config-motion-not-csv", found, "a file whose name ends in .csv", "name it so")
        if config.camera == "webrtc":
            found = "--record-motion with --camera webrtc"
            cure = "leave one of them out"
            raise ConfigError("config-motion-with-webrtc", found, "one driver, whose motion is recorded", cure)
    faces = next((spec for spec in config.sink if spec.startswith(FACE_SINKS)), None)
    if faces is not None and config.camera == "webrtc":
        found = f"--sink {faces} with --camera webrtc"
        raise ConfigError("config-faces-with-webrtc", found, "one driver, whose face is sent", "leave one of them out")


def _check_combinations(config: Config) -> None:
    _check_tracked(config)
    if config.pace == "max":
        _check_pace(config)
    regions = REGIONS_OF[config.generator]
    if config.region not in regions:
        found = f"--region {config.region} with --generator {config.generator}"
        cure = "choose one of these regions, or --generator liveportrait"
        raise ConfigError("config-region-not-available", found, one_of(regions), cure)
    if config.background.startswith("transparent") and config.generator not in TRANSPARENT:
        found = f"--background {config.background} with --generator {config.generator}"
        cure = "choose a colour, or --generator mesh"
        raise ConfigError("config-background-not-available", found, one_of(TRANSPARENT), cure)
    if config.retarget != "none" and config.generator != "liveportrait":
        found = f"--retarget {config.retarget} with --generator {config.generator}"
        raise ConfigError("config-retarget-not-available", found, "--generator liveportrait", "leave --retarget out")
    addresses = [spec for spec in config.sink if spec.startswith("webrtc")]
    if len(addresses) > 1:
        found = f"--sink {' and --sink '.join(addresses)}"
        raise ConfigError("config-two-addresses", found, "one address for the page", "give one of them")


def _check_pace(config: Config) -> None:
    """Raise ConfigError for what does not go together with ``--pace max``."""
    if _LIVE_CAMERA.fullmatch(config.camera):
        raise pace_needs_file(config)
    if config.camera == "performer" and not (config.frames or config.duration):
        found = "--pace max with --camera performer, which never ends"
        raise ConfigError("config-pace-never-ends", found, "a limit", "give one with --frames or --duration")
    if any(spec.startswith("webrtc") or is_target(spec) for spec in config.sink):
        found = "--pace max with a sink that is watched live"
        cure = "leave one of them out"
        raise ConfigError("config-pace-with-webrtc", found, "--pace live, as viewers watch in real time", cure)


def _check_files(config: Config, path: Path | None) -> None:
    """Raise ConfigError if an output is also an input, the TOML file at ``path`` included, or another output."""
    weights = paths.expand(config.weights) if config.weights else None
    inputs = (
        _camera_file(config.camera),
        *config.portrait,
        path,
        config.model,
        config.token_file,
        config.stream_key_file,
        None if config.https in ("off", "auto") else paths.expand(config.https),
        weights,
    )
    outputs = [paths.expand(spec[5:]) for spec in config.sink if spec.startswith("file:")]
    if config.pace == "max":
        outputs += [AUTO_RECORDING for spec in config.sink if spec == "auto"]
    outputs += [each for each in (config.report, config.record_motion) if each]
    outputs += [config.record_motion.with_suffix(".json")] if config.record_motion else []
    used = {paths.resolve(each) for each in inputs if each}
    for output in map(paths.resolve, outputs):
        if output in used:
            found = f"{output} is given twice and would be overwritten"
            raise ConfigError("config-overwrites", found, cure="write to a file of another name")
        used.add(output)


def _camera_file(camera: str) -> Path:
    """Return the file that a camera may be. Raises ConfigError if it is in a home folder that does not exist."""
    if not camera.startswith("motion:"):
        return Path(camera)
    from realtime.capture.motion_source import parse_motion

    return parse_motion(camera)[0]
