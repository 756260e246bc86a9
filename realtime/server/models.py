"""Every JSON document that clients send to the server or get from it.

These models validate what comes in, and docs/openapi.json and docs/api.md are generated from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, core_schema

from engines.errors import one_of
from engines.generator import GENERATORS, MOUTHS, REGIONS
from realtime.core.protocol import VERSION
from realtime.motion.controls import CONTROLS, GROUPS, MIXES
from realtime.motion.settings import MAX_GAIN
from realtime.tracking.settings import DRIVERS, MAX_FACES, PLACE

MAX_INTEGER = 2**53 - 1
"""The largest integer that every JSON parser keeps exactly."""
MAX_ID_LENGTH = 64
MAX_NAME_LENGTH = 200


@dataclass(frozen=True, slots=True)
class OneOf:
    """Restrict an annotated string to ``choices``, in validation and in the schema."""

    choices: tuple[str, ...]

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(list(self.choices))


def _integer(value: Any) -> Any:
    """Return an integral float such as 1.0 as an int, which it is for JSON Schema; anything else as it is."""
    if isinstance(value, bool):
        raise ValueError("a boolean is not an integer")
    return int(value) if isinstance(value, float) and value.is_integer() else value


assert VERSION == 1  # a type checker wants the number itself
Version = Annotated[Literal[1], BeforeValidator(_integer), Field(description="version of the protocol")]
RequestId = Annotated[
    Annotated[int, Field(ge=-MAX_INTEGER, le=MAX_INTEGER)] | Annotated[str, Field(max_length=MAX_ID_LENGTH)] | None,
    BeforeValidator(_integer),
]
PortraitKey = Annotated[
    Annotated[int, Field(ge=0, le=MAX_INTEGER)] | Annotated[str, Field(max_length=MAX_NAME_LENGTH)],
    BeforeValidator(_integer),
]


class Message(BaseModel):
    """A document with a version."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    v: Version = 1


# --- commands


class Request(BaseModel):
    """A command, over the data channel or ``POST /api/control``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    v: Version
    id: RequestId = Field(default=None, description="repeated in the reply")


class _WithoutValue(Request):
    value: None = Field(default=None, description="none")


class _Toggle(Request):
    value: bool | None = Field(default=None, description="true, false, or none to toggle it")


class Calibrate(_WithoutValue):
    """Take the user's face of the next half second as the neutral one."""

    command: Literal["calibrate"]


class NextPortrait(_WithoutValue):
    """Show the next portrait; after the last comes the first."""

    command: Literal["next_portrait"]


class PreviousPortrait(_WithoutValue):
    """Show the previous portrait; before the first comes the last."""

    command: Literal["previous_portrait"]


class IncreaseGain(_WithoutValue):
    """Increase the gain by 0.1."""

    command: Literal["increase_gain"]


class DecreaseGain(_WithoutValue):
    """Decrease the gain by 0.1."""

    command: Literal["decrease_gain"]


class SetFrozen(_Toggle):
    """Freeze the picture."""

    command: Literal["set_frozen"]


class SetSlate(_Toggle):
    """Show a slate in place of the portrait."""

    command: Literal["set_slate"]


class SetMirror(_Toggle):
    """Mirror the driving video."""

    command: Literal["set_mirror"]


class SetMuted(_Toggle):
    """Leave out the sound that the browser sends. For a session only."""

    command: Literal["set_muted"]


class SetPortrait(Request):
    """Show a portrait."""

    command: Literal["set_portrait"]
    value: PortraitKey = Field(description="a portrait's index, from 0, or its name")


class SetGain(Request):
    """Set how strongly the expression moves the portrait."""

    command: Literal["set_gain"]
    value: float = Field(ge=0, le=MAX_GAIN, description=f"a number from 0 to {MAX_GAIN:g}")


class SetRegion(Request):
    """Choose what moves. What the generator cannot move by itself is refused."""

    command: Literal["set_region"]
    value: Annotated[str, OneOf(REGIONS)] = Field(description=one_of(REGIONS))


class SetMouth(Request):
    """Choose what fills an open mouth. For the generator ``mesh`` only."""

    command: Literal["set_mouth"]
    value: Annotated[str, OneOf(MOUTHS)] = Field(description=one_of(MOUTHS))


class SetRefined(_Toggle):
    """Have networks repair the picture. For the generator ``mesh`` where its networks run."""

    command: Literal["set_refined"]


class SetBackground(Request):
    """Choose what is behind the portrait."""

    command: Literal["set_background"]
    value: str = Field(
        min_length=1,
        max_length=80,
        description="keep, blur, transparent, transparent:COLOUR, a colour such as green or #00ff00, or the name of an "
        "image that was added",
    )


class SetDriver(Request):
    """Choose the face that drives, if there are several. The motion of another face is eased in."""

    command: Literal["set_driver"]
    value: Annotated[
        Annotated[str, OneOf(DRIVERS)]
        | Annotated[str, Field(pattern=PLACE)]
        | Annotated[int, Field(ge=1, le=MAX_FACES)]
        | None,
        BeforeValidator(_integer),
    ] = Field(
        default=None,
        description=f"{', '.join(DRIVERS)}; the n-th face from the left, 1 to {MAX_FACES}; the face at a place of the"
        " camera's picture, as shares of its width and height such as 0.4,0.25; none for the next word",
    )


class SetGenerator(Request):
    """Change the generator. The current one goes on until the new one is ready."""

    command: Literal["set_generator"]
    value: Annotated[str, OneOf(GENERATORS)] = Field(description=one_of(GENERATORS))


class SetExpression(Request):
    """Set what is added to the driver's expression; what is not named stays. For the generator ``mesh`` only."""

    command: Literal["set_expression"]
    value: dict[Annotated[str, Field(max_length=40)], Annotated[float, Field(ge=-1, le=1)]] = Field(
        max_length=2 * len(CONTROLS),
        description="controls, coefficients or action units by name, each from -1 to 1, such as"
        ' {"mouthSmileLeft": 0.4, "AU1": 0.5}; see directing.md',
    )


class SetMix(Request):
    """Choose what moves each part of the face: the driver, what is added to it, or what is set alone."""

    command: Literal["set_mix"]
    value: dict[Annotated[str, OneOf(GROUPS)], Annotated[str, OneOf(MIXES)]] = Field(
        description=f"{one_of(MIXES)} for each of {', '.join(GROUPS)}"
    )


class ResetExpression(_WithoutValue):
    """Leave the expression to the driver again."""

    command: Literal["reset_expression"]


class ToggleLook(_WithoutValue):
    """Have the portrait look at the camera, or where the driver does."""

    command: Literal["toggle_look"]


class NextPreset(_WithoutValue):
    """Set the next preset; after the last one comes none."""

    command: Literal["next_preset"]


class _Named(Request):
    value: str = Field(min_length=1, max_length=40, description="the name of a preset")


class UsePreset(_Named):
    """Set an expression that is kept by name, and nothing else."""

    command: Literal["use_preset"]


class SavePreset(_Named):
    """Keep what is set under a name."""

    command: Literal["save_preset"]


class DeletePreset(_Named):
    """Forget a preset that was saved."""

    command: Literal["delete_preset"]


ControlRequest = Annotated[
    SetPortrait
    | SetExpression
    | SetMix
    | ResetExpression
    | ToggleLook
    | NextPreset
    | UsePreset
    | SavePreset
    | DeletePreset
    | SetGain
    | SetRegion
    | SetMouth
    | SetRefined
    | SetBackground
    | SetDriver
    | SetGenerator
    | SetFrozen
    | SetSlate
    | SetMirror
    | SetMuted
    | NextPortrait
    | PreviousPortrait
    | IncreaseGain
    | DecreaseGain
    | Calibrate,
    Field(discriminator="command"),
]
CONTROL_REQUEST: TypeAdapter[ControlRequest] = TypeAdapter(ControlRequest)
REQUEST_ID: TypeAdapter[int | str | None] = TypeAdapter(RequestId)
VERSION_OF_REQUEST: TypeAdapter[int] = TypeAdapter(Version)


# --- errors and replies


class ErrorFields(BaseModel):
    """What went wrong. Clients decide by ``code``; the other members are for people."""

    code: str = Field(description="a stable name for the condition, see errors.md")
    found: str = Field(description="what was found")
    expected: str = Field(description="what was expected; may be empty")
    cure: str = Field(description="what to do about it; may be empty")


class Problem(ErrorFields):
    """The body of every HTTP answer with status 400 or above (RFC 9457)."""

    title: str = Field(description="what was found and expected, in one line")
    status: int = Field(description="the HTTP status")
    id: int | str | None = Field(default=None, description="that of the command, if it had one")


class ControlReply(Message):
    """The answer to a command that was carried out."""

    id: int | str | None = Field(default=None, description="that of the command; absent if it had none")
    ok: Literal[True] = True
    said: str = Field(description="the outcome in a few words")


class ControlFailure(Message):
    """The answer over the data channel to a command that was not carried out. Over HTTP it is a Problem."""

    id: int | str | None = Field(default=None, description="that of the command; absent if it had none")
    ok: Literal[False] = False
    error: ErrorFields


# --- state


class Percentiles(BaseModel):
    """Recent durations in milliseconds."""

    p50: float = Field(description="median")
    p99: float = Field(description="99th percentile")


class SelectedPortrait(BaseModel):
    """The portrait in use."""

    index: int = Field(description="of the portrait that was chosen last")
    name: str = Field(description="of the portrait that is shown; another one until the chosen one is ready")


class NetworkState(BaseModel):
    """What the media process reports of a run's connection; null where a figure does not apply."""

    model_config = ConfigDict(extra="allow")

    viewers: int | None = Field(default=None, description="connected viewers, the publisher's own view included")
    encoders: list[str] | None = Field(default=None, description="the encoders in use for the viewers")
    codec: str | None = Field(default=None, description="of the driving video")
    size: list[int] | None = Field(default=None, description="of the driving video: width and height in pixels")
    frames: int | None = Field(default=None, description="frames that were decoded")
    bitrate: float | None = Field(default=None, description="of the driving video, in bit/s")
    lost: int | None = Field(default=None, description="packets lost on the way here")
    jitter_ms: float | None = Field(default=None, description="variation of the packets' travel time")
    rtt_ms: float | None = Field(default=None, description="round-trip time")
    dropped: int | None = Field(default=None, description="frames that a newer one replaced before they were read")
    sounds: int | None = Field(default=None, description="packets of sound that arrived")
    connected: bool | None = Field(default=None, description="whether the connection is up")
    control: bool | None = Field(default=None, description="whether the data channel is open")


class State(Message):
    """What a run is doing."""

    session: str | None = Field(description="the secret of the session; null for the main run")
    watch: str = Field(description="what lets others watch: ?watch=WATCH on the page; POST /whep/WATCH for a session")
    source: str = Field(description="where the driving video comes from")
    face: Literal["starting", "found", "lost", "camera lost"] = Field(
        description="whether there is a face in the driving video"
    )
    portrait: SelectedPortrait = Field(description="the portrait that was chosen, and the one that is shown")
    portraits: int = Field(description="how many portraits there are")
    generator: str = Field(description=f"the generator: {one_of(GENERATORS)}")
    generator_name: str = Field(description="the generator as shown to people, with weights, backend and device")
    region: str = Field(description="what moves")
    gain: float = Field(description="how strongly it moves")
    mouth: str | None = Field(description="what fills an open mouth; null where there is no choice")
    mouths: list[str] = Field(description="the values that set_mouth takes; empty where there is no choice")
    refined: bool | None = Field(description="whether networks repair the picture; null where there is no choice")
    background: str = Field(description="what is behind the portrait, as for set_background")
    driver: str | int = Field(description="the face that drives, as for set_driver")
    expression: dict[str, float] = Field(description="what is set, as for set_expression; what is 0 is left out")
    mix: dict[str, str] | None = Field(
        description="what moves each part of the face, as for set_mix; null where there is no choice"
    )
    presets: list[str] = Field(description="the expressions that are kept by name")
    mirror: bool = Field(description="whether the driving video is mirrored")
    frozen: bool = Field(description="whether the picture is frozen")
    slate: bool = Field(description="whether a slate is shown")
    muted: bool = Field(description="whether the sound that the browser sends is left out")
    calibrating: bool = Field(description="whether the neutral face is being taken")
    size: list[int] = Field(description="of the output: width and height in pixels")
    fps: float = Field(description="recent frames a second")
    frames: int = Field(description="frames published")
    faces: int = Field(description="published frames whose driving frame had a face")
    age_ms: Percentiles = Field(description="time from capture to sent")
    stages_ms: dict[str, Percentiles] = Field(
        description="time in the stages track, generate and send; empty before the run has started"
    )
    dropped: dict[str, int] = Field(description="dropped frames by place")
    viewers: int = Field(description="how many watch, without the own view of the browser that drives")
    network: NetworkState = Field(description="figures of the connection, see below")


class SessionCount(BaseModel):
    """How many sessions there are."""

    open: int = Field(description="how many are open")
    limit: int = Field(description="how many there may be at the same time")


class ProgramState(Message):
    """What the program is doing."""

    program: Literal["reenact"] = Field(default="reenact", description="always the same")
    version: str = Field(description="of the program")
    main: State | None = Field(description="the main run; null where browsers drive")
    sessions: SessionCount = Field(description="how many are open, and how many may be")
    uptime_s: float = Field(description="seconds since the program started")


class Health(Message):
    """Whether the program works."""

    ok: bool = Field(description="true; a program that does not work is answered by a problem")


# --- portraits


class Portrait(BaseModel):
    """A portrait to choose from."""

    index: int = Field(description="for set_portrait")
    name: str = Field(description="for set_portrait, and to show")
    picture: str = Field(description="the path of a small JPEG of it")


class PortraitList(Message):
    """The portraits that can be chosen."""

    portraits: list[Portrait]


class AddedBackground(Message):
    """The answer to an image that was sent as a background."""

    name: str = Field(description="of the background, for ``set_background``")


class AddedPortrait(Message):
    """A portrait that was uploaded."""

    index: int = Field(description="for set_portrait")
    name: str = Field(description="for set_portrait, and to show")
    notes: list[str] = Field(description="remarks on the picture")


# --- links for guests, which the media process makes and checks


class NewLink(BaseModel):
    """What a new link is to be."""

    expires_in_s: int = Field(default=3600, ge=60, le=86400, description="how long it is valid, in seconds")


class GuestLink(BaseModel):
    """A link that lets others watch one stream."""

    id: str = Field(description="names the link, to revoke it")
    path: str = Field(description="the path of the page that it opens; PATH/whep is where a player watches (WHEP)")
    expires_in_s: int = Field(description="how long it is still valid, in seconds")
    viewers: int = Field(description="how many watch through it")


class AddedLink(GuestLink, Message):
    """A link that was made."""


class LocalNetworkFields(BaseModel):
    """Whether guests come in from the local network."""

    state: Literal["closed", "open", "served"] = Field(
        description="closed; open for guests; or served: other machines reach the program itself"
    )
    addresses: list[str] = Field(description="the addresses at which they come in")


class LocalNetwork(LocalNetworkFields, Message):
    """The answer where guests are let in, or not any more."""


class OpenLocalNetwork(BaseModel):
    """Whether to let guests in from the local network."""

    open: bool


class LinkList(Message):
    """The links that are valid."""

    links: list[GuestLink]
    local_network: LocalNetworkFields


# --- what the server sends over the data channel by itself


class StateMessage(Message):
    """The state of the session, twice a second."""

    state: State


class NoticeMessage(Message):
    """A notice for the user."""

    notice: str


class ErrorMessage(Message):
    """The session has failed, and is about to end."""

    error: ErrorFields
