"""Settings of the media server: address, token, ICE servers, codecs and limits."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from engines.errors import UsageError

H264Encoder = Literal["auto", "libx264", "h264_nvenc"]
MAX_PIXELS = 1920 * 1080
"""The most pixels of a publisher's frame; larger frames are scaled down."""
_ICE_URL = re.compile(r"(stun:[^\s?:/@]+(:\d{1,5})?|turns?:[^\s?:/@]+(:\d{1,5})?(\?transport=(udp|tcp))?)")
_CODECS = ("VP8", "H264")


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server, as in ``RTCIceServer``.

    With ``secret`` set, each peer gets a TURN user name and password derived from it that expire, as coturn's
    ``use-auth-secret`` expects them (draft-uberti-behave-turn-rest-00). The secret itself never leaves the program.
    """

    url: str
    """``stun:HOST[:PORT]`` or ``turn[s]:HOST[:PORT][?transport=udp|tcp]``."""
    username: str | None = None
    credential: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    lifetime_s: int = 3600
    """How long credentials derived from the secret are valid."""

    def __post_init__(self) -> None:
        """Raise UsageError for an address of another form, and for a TURN server without credentials."""
        if not _ICE_URL.fullmatch(self.url):
            raise UsageError(
                "webrtc-bad-ice-server",
                f"{self.url!r} is no ICE server",
                "stun:HOST[:PORT] or turn[s]:HOST[:PORT][?transport=udp|tcp]",
                "write it like stun:stun.example.org:3478 or turn:turn.example.org?transport=udp",
            )
        if self.url.startswith("turn") and self.secret is None and (self.username is None or self.credential is None):
            raise UsageError(
                "webrtc-turn-without-credentials",
                f"the TURN server {self.url} has no credentials",
                "a secret, or a user name and a password",
                "give it the secret of its static-auth-secret, or both username and credential",
            )

    def credentials(self, now_s: float | None = None) -> tuple[str, str] | None:
        """Return a user name and a password for one peer, valid from now on; None for a server that needs none."""
        if self.secret is not None:
            expiry = int((time.time() if now_s is None else now_s) + self.lifetime_s)
            username = f"{expiry}:{self.username}" if self.username else str(expiry)
            digest = hmac.new(self.secret.encode(), username.encode(), hashlib.sha1).digest()
            return username, base64.b64encode(digest).decode()
        if self.username is not None and self.credential is not None:
            return self.username, self.credential
        return None


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Everything that the media process needs to know. Bit rates are in bit/s of video, for each peer."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes any free port."""
    token: str | None = field(default=None, repr=False)
    certificate: str | None = None
    """A PEM file with the certificate and the private key for HTTPS; without one, HTTP is served."""
    server_names: tuple[str, ...] = ()
    """Further names, NAME or NAME:PORT, that requests may carry in ``Host`` and ``Origin``, as behind a proxy."""
    main_run: bool = True
    """Whether the program has a main run, the stream of ``/whep``. Without one, only browsers drive."""
    ice_servers: tuple[IceServer, ...] = ()
    """Empty by default: no server outside is contacted."""
    min_bitrate: int = 250_000
    start_bitrate: int = 2_500_000
    max_bitrate: int = 6_000_000
    codecs: tuple[str, ...] = ("H264", "VP8")
    """The codecs to negotiate, the preferred one first."""
    h264_encoder: H264Encoder = "auto"
    """``auto`` takes NVENC where it works and x264 otherwise; the statistics name the one in use."""
    marker_jitter_buffer: bool = True
    """Whether a frame is decoded with its last packet, instead of with the first packet of the next frame."""
    gather_timeout_s: float = 2.0
    """How long an answer waits for STUN and TURN servers."""
    max_viewers: int = 8
    """The most viewers, one of each session not counted. Every viewer may need an encoder of its own."""
    peer_timeout_s: float = 15.0
    """A peer that has sent nothing for this long is gone."""

    def __post_init__(self) -> None:
        """Raise UsageError for settings that cannot work, in particular a reachable address without a token."""
        if not 0 <= self.port <= 65535:
            raise UsageError("webrtc-bad-port", f"the port {self.port}", "0 to 65535", "choose another port")
        if self.token is not None and not self.token.strip():
            raise UsageError(
                "webrtc-empty-token", "the token is empty", cure="give a token, such as: openssl rand -hex 16"
            )
        if self.token is None and (self.server_names or not self.loopback):
            # a further name means a proxy, which other machines reach
            raise UsageError(
                "webrtc-token-required",
                f"other machines can reach {self.server_names[0] if self.server_names else self.host} and there is no"
                " token",
                cure="give one with --token, or serve on 127.0.0.1",
            )
        if not 0 < self.min_bitrate <= self.start_bitrate <= self.max_bitrate:
            raise UsageError(
                "webrtc-bad-bitrates",
                f"bit rates of {self.min_bitrate}, {self.start_bitrate} and {self.max_bitrate} bit/s",
                "lowest <= first <= highest",
                "change one of them",
            )
        if not self.codecs or any(codec not in _CODECS for codec in self.codecs):
            raise UsageError("webrtc-unknown-codec", f"the codecs {self.codecs}", "H264 and VP8", "choose from these")
        if self.h264_encoder not in ("auto", "libx264", "h264_nvenc"):
            raise UsageError(
                "webrtc-unknown-encoder",
                f"the H.264 encoder {self.h264_encoder!r}",
                "auto, libx264 or h264_nvenc",
                "choose one of these",
            )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return is_loopback(self.host)

    @property
    def scheme(self) -> str:
        """The scheme of the server's address, ``http`` or ``https``."""
        return "http" if self.certificate is None else "https"

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ServerSettings:
        """Return the settings that ``to_json`` described."""
        rest = dict(values)
        for name in ("server_names", "codecs"):
            rest[name] = tuple(rest[name])
        rest["ice_servers"] = tuple(IceServer(**each) for each in rest["ice_servers"])
        return cls(**rest)


def is_loopback(host: str) -> bool:
    """Return whether a host, given by name or address, is a loopback address of this machine."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
