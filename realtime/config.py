"""One typed configuration out of a TOML file and the command line; whatever is wrong names its key."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from engines.errors import ConfigError, UsageError
from engines.generator import GENERATORS, REGIONS_OF
from realtime.core import paths
from realtime.motion.settings import MAX_GAIN, NeutralMode, Region
from realtime.sinks.sink import AUTO_RECORDING
from realtime.webrtc.settings import IceServer

SECRETS = ("token", "ice_server")
"""What is never printed."""
_EITHER = (("token", "token_file"), ("token_file", "token"))
"""Options that say the same in two ways: one on the command line wins over the other in a file."""
TOKEN_VARIABLE = "REENACT_TOKEN"
DEFAULT_ADDRESS = ("127.0.0.1", 8080)
"""Where the page is served."""
_SMALLEST, _LARGEST = 64, 4096
_SINK = re.compile(r"auto|null|virtualcam(:.+)?|file:.+|webrtc(:.+)?", re.DOTALL)
_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]*):)?(?P<port>\d{1,5})")
_ICE_SERVER = {"url": str, "username": str, "credential": str, "secret": str, "lifetime_s": int}
_LIVE_CAMERA = re.compile(r"auto|\d+|/dev/(video\d+|v4l/.+)|webrtc")
"""What is known to be live before it is opened; what has a camera's name shows only then."""


def _size(value: object) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not WxH")
    width, height = int(match[1]), int(match[2])
    if any(side % 2 or not _SMALLEST <= side <= _LARGEST for side in (width, height)):
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
    return value


def address(spec: str) -> tuple[str, int]:
    """Host and port of ``webrtc[:[HOST:]PORT]``. Raises ValueError."""
    if spec == "webrtc":
        return DEFAULT_ADDRESS
    match = _ADDRESS.fullmatch(spec.partition(":")[2])
    if match is None or int(match["port"]) > 65535:
        raise ValueError("not HOST:PORT")
    return (match["host"] or DEFAULT_ADDRESS[0]).strip("[]"), int(match["port"])


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
        raise ValueError("credentials that are never good")
    try:
        return IceServer(**value)
    except (TypeError, UsageError) as error:
        raise ValueError(str(error)) from None


def _generator(value: object) -> str:
    if value not in GENERATORS:
        raise ValueError("not a generator")
    return str(value)


_Path = Annotated[Path, BeforeValidator(_path)]
_Generator = Annotated[str, BeforeValidator(_generator)]
_Sink = Annotated[str, BeforeValidator(_sink)]
_IceServer = Annotated[IceServer, BeforeValidator(_ice_server)]
_ServerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+(:\d{1,5})?$")]


class Config(BaseModel):
    """Everything a run is told. The descriptions say what is allowed; errors and ``--help`` quote them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    camera: Annotated[str, BeforeValidator(_camera)] = Field(
        default="auto",
        description="auto, a camera's number, /dev/videoN, part of a camera's name (Linux), a video file, "
        "performer (a scripted face), or webrtc",
    )
    portrait: Annotated[tuple[_Path, ...], BeforeValidator(_several)] = Field(
        default=(), description="a picture with a face; give several to switch between them with n and p"
    )
    generator: _Generator = Field(default="mesh", description=" or ".join(GENERATORS))
    sink: Annotated[tuple[_Sink, ...], BeforeValidator(_several)] = Field(
        default=("auto",),
        min_length=1,
        description="auto, virtualcam, virtualcam:DEVICE, webrtc, webrtc:HOST:PORT, file:OUT.mp4 or null",
    )
    size: Annotated[tuple[int, int], BeforeValidator(_size)] = Field(
        default=(1280, 720),
        description=f"WIDTHxHEIGHT of the output, both even, {_SMALLEST} to {_LARGEST}, such as 1280x720",
    )
    fps: float | None = Field(default=None, ge=1, le=240, description="frames per second, from 1 to 240")
    pace: Literal["live", "max"] = Field(
        default="live",
        description="live (as a camera: the newest frame wins) or max (every frame of a file, in order)",
    )
    frames: int | None = Field(default=None, ge=1, description="end after so many frames, 1 or more")
    duration: float | None = Field(default=None, gt=0, le=1e8, description="end after so many seconds, more than 0")
    neutral: NeutralMode = Field(
        default="auto",
        description="auto (the calmest face seen so far) or first (the first one seen) is the neutral face",
    )
    backend: Literal["auto", "torch", "onnx", "tensorrt"] = Field(
        default="auto", description="what runs the networks: auto, torch, onnx or tensorrt"
    )
    device: Literal["auto", "cpu", "cuda", "rtx"] = Field(
        default="auto", description="where they run: auto, cpu, cuda, or rtx (TensorRT for RTX cards in ONNX Runtime)"
    )
    compile: bool = Field(
        default=False, description="true or false: have torch.compile work on the networks first, for minutes"
    )
    weights: str | None = Field(
        default=None,
        pattern=r"^[^\x00]+$",
        description="the networks' weights: a folder or file, or random:SEED for trying out",
    )
    region: Region = Field(default="all", description="all, expression or pose; with liveportrait also lips or eyes")
    retarget: Literal["none", "eyes", "lips", "both"] = Field(
        default="none",
        description="none, eyes, lips or both: what shuts all the way when the driver's does, with liveportrait",
    )
    gain: float = Field(
        default=1.0, ge=0, le=MAX_GAIN, description=f"strength of the expression, from 0 to {MAX_GAIN:g}"
    )
    mouth: Literal["driver", "painted"] = Field(
        default="driver",
        description="inside of an open mouth: driver (their own) or painted (nothing from the camera)",
    )
    mirror: bool = Field(default=False, description="true or false: flip the driving picture left to right")
    tracker: Literal["auto", "facemesh", "landmarker"] = Field(
        default="auto", description="auto, facemesh or landmarker"
    )
    model: _Path | None = Field(default=None, description="the face_landmarker.task file for the landmarker")
    token: str | None = Field(
        default=None, min_length=1, repr=False, exclude=True, description="what whoever opens the page must know"
    )
    token_file: _Path | None = Field(default=None, description="a file with the token in it")
    sessions: int | None = Field(
        default=None, ge=1, le=64, description="how many browsers may drive at a time, 1 to 64; measured if left out"
    )
    ice_server: Annotated[tuple[_IceServer, ...], BeforeValidator(_several)] = Field(
        default=(), exclude=True, description="stun:HOST or turn:HOST,USER,PASSWORD; in TOML also url and secret"
    )
    server_name: Annotated[tuple[_ServerName, ...], BeforeValidator(_several)] = Field(
        default=(), description="another name that the page is opened under, NAME or NAME:PORT, as through a proxy"
    )
    bitrate: int = Field(
        default=6000, ge=100, le=100_000, description="the most kilobits a second of video for a viewer, 100 to 100000"
    )
    jitter_mend: bool = Field(
        default=True, description="true or false: show a frame when its last packet is here, not when the next begins"
    )
    relay_code: bool = Field(
        default=False,
        description="true or false: carry the code of tools.bench_latency over to the picture, to measure delays",
    )
    report: _Path | None = Field(default=None, description="write figures about the run to this JSON file")
    quiet: bool = Field(default=False, description="true or false: print errors only")


def allowed(key: str) -> str:
    """What may be given for a key, in words."""
    return Config.model_fields[key].description or ""


def load(options: Mapping[str, object], path: Path | None = None) -> Config:
    """Merge the command line over the TOML file at ``path`` and check the whole.

    ``options`` has the keys of Config; None stands for an option that was not given. Paths in the file are
    taken as on the command line: relative to the working directory. Raises ConfigError.
    """
    given = {key: value for key, value in options.items() if value is not None and value != []}
    written = _read(path) if path else {}
    for key in written:
        if key not in Config.model_fields:
            raise _unknown(key, path)
    for key, other in _EITHER:
        if key in given:
            written.pop(other, None)
    try:
        config = Config.model_validate(written | given)
    except ValidationError as error:
        raise _invalid(error, given, path) from None
    _check_together(config)
    _check_files(config, path)
    return _with_token(config)


def _with_token(config: Config) -> Config:
    """The token out of its file, or of the environment where no option names one."""
    if config.token is not None and config.token_file is not None:
        raise ConfigError("--token and --token-file are both given", cure="give one of them")
    token = config.token
    if config.token_file is not None:
        try:
            token = paths.read_text(config.token_file).strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise ConfigError(
                f"--token-file: {config.token_file} cannot be read: {why}", cure="give a text file with the token in it"
            ) from None
        if not token:
            raise ConfigError(f"--token-file: {config.token_file} is empty", cure="write the token into it")
    if token is None:
        token = os.environ.get(TOKEN_VARIABLE, "").strip() or None
    return config if token == config.token else config.model_copy(update={"token": token})


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(paths.read_text(path))
    except FileNotFoundError:
        raise ConfigError(f"--config: there is no file {path}", cure="give the path of a TOML file") from None
    except OSError as error:
        raise ConfigError(
            f"--config: {path} cannot be read: {error.strerror}", cure="give the path of a TOML file"
        ) from None
    except (ValueError, RecursionError) as error:
        told = isinstance(error, tomllib.TOMLDecodeError | UnicodeDecodeError)
        why = error if told else "a number in it is too long, or it is nested too deeply"
        raise ConfigError(
            f"--config: {path} is not TOML: {why}", cure='write one key a line, such as size = "1280x720"'
        ) from None


def _unknown(key: str, path: Path | None) -> ConfigError:
    close = difflib.get_close_matches(key, Config.model_fields, n=1, cutoff=0.5)
    cure = f"did you mean {close[0]}?" if close else f"the keys are {', '.join(Config.model_fields)}"
    return ConfigError(f"{path}: {key!r} is not a key", cure=cure)


def _invalid(error: ValidationError, given: Mapping[str, object], path: Path | None) -> ConfigError:
    first = error.errors()[0]
    key = str(first["loc"][0])
    found = first["input"]
    where = f"--{key.replace('_', '-')}" if key in given else f"{path}: {key}"
    shown = str(found) if isinstance(found, Path) else repr(found)
    if key in SECRETS and found:
        shown = "something else"
    return ConfigError(f"{where}: found {shown}", cure=f"allowed: {allowed(key)}")


def no_file(config: Config) -> ConfigError:
    """What to say of ``--pace max`` with a camera that is live, known before or after it is opened."""
    return ConfigError(
        f"--pace max works through a file, and --camera is {config.camera}",
        cure="give --camera a video file, or leave --pace at live",
    )


def _check_together(config: Config) -> None:
    if config.pace == "max" and _LIVE_CAMERA.fullmatch(config.camera):
        raise no_file(config)
    if config.pace == "max" and config.camera == "performer" and not (config.frames or config.duration):
        raise ConfigError("--pace max never ends with the performer", cure="say how much with --frames or --duration")
    if config.pace == "max" and any(spec.startswith("webrtc") for spec in config.sink):
        raise ConfigError("--pace max goes through a file, not at a viewer's pace", cure="leave --sink webrtc out")
    allowed_regions = REGIONS_OF[config.generator]
    if config.region not in allowed_regions:
        raise ConfigError(
            f"--region {config.region} is not for the generator {config.generator}",
            cure=f"choose {' or '.join(allowed_regions)}, or --generator liveportrait",
        )
    if config.retarget != "none" and config.generator != "liveportrait":
        raise ConfigError(
            f"--retarget {config.retarget} is not for the generator {config.generator}",
            cure="leave it out, or choose --generator liveportrait",
        )
    addresses = [spec for spec in config.sink if spec.startswith("webrtc")]
    if len(addresses) > 1:
        raise ConfigError(f"--sink: found {' and '.join(addresses)}", cure="serve the page at one address")


def _check_files(config: Config, path: Path | None) -> None:
    """Refuse to write over anything that is read, the TOML file at ``path`` included, or over anything twice."""
    weights = paths.expand(config.weights) if config.weights else None
    inputs = (Path(config.camera), *config.portrait, path, config.model, config.token_file, weights)
    outputs = [paths.expand(spec[5:]) for spec in config.sink if spec.startswith("file:")]
    if config.pace == "max":
        outputs += [AUTO_RECORDING for spec in config.sink if spec == "auto"]
    if config.report:
        outputs.append(config.report)
    taken = {paths.resolve(each) for each in inputs if each}
    for each in map(paths.resolve, outputs):
        if each in taken:
            raise ConfigError(f"{each} would be overwritten: it is given twice", cure="write to a file of another name")
        taken.add(each)
