"""What the media server is told when it starts: address, token, ICE servers, codecs and limits."""

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
_ICE_URL = re.compile(r"(stun:[^\s?:/@]+(:\d{1,5})?|turns?:[^\s?:/@]+(:\d{1,5})?(\?transport=(udp|tcp))?)")
_CODECS = ("VP8", "H264")


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server, as in ``RTCIceServer``.

    With ``secret`` set, a TURN user name and password that expire are made out of it for each peer, as coturn's
    ``use-auth-secret`` expects them (draft-uberti-behave-turn-rest-00); the secret itself never leaves the program.
    """

    url: str
    """``stun:HOST[:PORT]`` or ``turn[s]:HOST[:PORT][?transport=udp|tcp]``."""
    username: str | None = None
    credential: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    lifetime_s: int = 3600
    """For how long credentials made out of the secret are good."""

    def __post_init__(self) -> None:
        """Raises UsageError for an address of another kind, and a TURN server without credentials."""
        if not _ICE_URL.fullmatch(self.url):
            raise UsageError(
                f"{self.url!r} is no ICE server, expected stun:HOST[:PORT] or turn[s]:HOST[:PORT][?transport=udp|tcp]",
                cure="write it like stun:stun.example.org:3478 or turn:turn.example.org?transport=udp",
            )
        if self.url.startswith("turn") and self.secret is None and (self.username is None or self.credential is None):
            raise UsageError(
                f"the TURN server {self.url} has no credentials, expected a secret, or a user name and a password",
                cure="give it the secret of its static-auth-secret, or both username and credential",
            )

    def credentials(self, now_s: float | None = None) -> tuple[str, str] | None:
        """User name and password for one peer from now on; None for a server that needs none."""
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
    """Everything the media process needs to know. Bit rates are in bit/s of video, for each peer."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes any free port."""
    token: str | None = field(default=None, repr=False)
    names: tuple[str, ...] = ()
    """More names that requests may come for, as where a reverse proxy passes on its own (``Host``, ``Origin``)."""
    ice_servers: tuple[IceServer, ...] = ()
    """None by default: no server outside is contacted."""
    min_bitrate: int = 250_000
    start_bitrate: int = 2_500_000
    max_bitrate: int = 6_000_000
    codecs: tuple[str, ...] = ("H264", "VP8")
    """What is negotiated, the preferred one first."""
    h264_encoder: H264Encoder = "auto"
    """``auto`` takes NVENC where it is present and works, else x264; the statistics say which."""
    jitter_mend: bool = True
    """Show a frame when its last packet is here, not when the next frame begins."""
    gather_timeout_s: float = 2.0
    """For how long an answer waits for STUN and TURN servers."""
    max_viewers: int = 8
    """Of all streams together, besides one of each session: each has an encoder of its own."""
    vanish_s: float = 15.0
    """A peer from which nothing was heard for this long is gone."""

    def __post_init__(self) -> None:
        """Raises UsageError for what cannot work, an address in reach of others without a token above all."""
        if not 0 <= self.port <= 65535:
            raise UsageError(f"{self.port} is no port, expected 0 to 65535", cure="choose another port")
        if self.token is not None and not self.token.strip():
            raise UsageError("the token is empty", cure="give a token, such as: openssl rand -hex 16")
        if self.token is None and (self.names or not self.loopback):
            # whoever names it otherwise has a proxy before it, which others reach
            raise UsageError(
                f"{self.names[0] if self.names else self.host} is in reach of other machines and there is no token",
                cure="give one with --token, or serve on 127.0.0.1",
            )
        if not 0 < self.min_bitrate <= self.start_bitrate <= self.max_bitrate:
            raise UsageError(
                f"bit rates of {self.min_bitrate}, {self.start_bitrate} and {self.max_bitrate} bit/s are out of order",
                cure="keep lowest <= first <= highest",
            )
        if not self.codecs or any(codec not in _CODECS for codec in self.codecs):
            raise UsageError(f"there is no codec among {self.codecs}", cure="choose out of H264 and VP8")
        if self.h264_encoder not in ("auto", "libx264", "h264_nvenc"):
            raise UsageError(f"there is no H.264 encoder {self.h264_encoder!r}", cure="auto, libx264 or h264_nvenc")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return is_loopback(self.host)

    def to_json(self) -> dict[str, Any]:
        """As sent to the media process."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ServerSettings:
        """The other direction of ``to_json``."""
        rest = dict(values)
        for name in ("names", "codecs"):
            rest[name] = tuple(rest[name])
        rest["ice_servers"] = tuple(IceServer(**each) for each in rest["ice_servers"])
        return cls(**rest)


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, is this machine and in reach of nobody else."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
