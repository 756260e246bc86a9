"""SDP: what an offer must contain, and what the answer adds to aiortc's."""

from __future__ import annotations

import re
from dataclasses import dataclass

from engines.errors import RequestError
from realtime.webrtc.settings import IceServer

MAX_CANDIDATES = 40
_MAX_SECTIONS = 8
_MAX_LINES = {"a=rtcp-fb:": 512, "a=rtcp-fb:*": 32, "a=fmtp:": 256, "a=ssrc:": 256}
"""Lines in one section. Browsers send fewer than a hundred; aiortc's time grows with their product."""
_PAYLOAD_TYPES = range(128)
SOUND_CODECS = ("opus", "pcmu", "pcma", "g722")
"""What a publisher may send; viewers get Opus. Every WebRTC client has Opus and the two of PCM (RFC 7874)."""
_STATIC_SOUND = {"0": "PCMU/8000", "8": "PCMA/8000", "9": "G722/8000"}
"""Payload types that mean a codec also where no a=rtpmap names it (RFC 3551 section 6)."""
_OFFER_CURE = "send the offer of a WHIP or WHEP client"
_FRAGMENT_CURE = "send the fragment of a WHIP or WHEP client"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An ICE candidate as it was written, and the media section it belongs to."""

    mid: str | None
    section: int
    text: str


@dataclass(frozen=True, slots=True)
class Offer:
    """An SDP offer, parsed as far as the server needs it."""

    text: str
    """Without its candidates. ICE gets these one by one, because names among them take time to resolve."""
    candidates: tuple[Candidate, ...]
    ufrags: frozenset[str]
    sound: bool = False
    """Whether there is a section of sound that names a codec of ``SOUND_CODECS``."""


def read_offer(body: bytes, direction: str) -> Offer:
    """Return an offer that has at least one video section in ``direction`` (sendonly or recvonly).

    Raises RequestError.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise RequestError("sdp-not-utf8", "bytes that are not UTF-8", "SDP", _OFFER_CURE) from None
    lines = [line for line in text.replace("\r\n", "\n").split("\n") if line]
    if not lines or lines[0] != "v=0":
        raise RequestError("sdp-not-sdp", "no SDP", "an offer that begins with v=0", _OFFER_CURE)
    if "\0" in text or "\n".join(lines).splitlines() != lines:
        # aiortc ends a line at any of these, and would read other lines than are checked here
        raise RequestError("sdp-control-characters", "control characters", "SDP", _OFFER_CURE)
    _check_sections(lines, direction)
    lines = _with_names(lines)
    kept = [line for line in lines if not line.startswith(("a=candidate:", "a=end-of-candidates"))]
    codecs = SOUND_CODECS if direction == "sendonly" else SOUND_CODECS[:1]
    return Offer("\r\n".join(kept) + "\r\n", _candidates(lines), _ufrags(lines), _has_sound(lines, codecs))


def read_fragment(body: bytes) -> tuple[tuple[Candidate, ...], frozenset[str]]:
    """Return the candidates and the ICE user fragments of a trickled SDP fragment (RFC 8840). Raises RequestError."""
    try:
        lines = [line for line in body.decode("utf-8").replace("\r\n", "\n").split("\n") if line]
    except UnicodeDecodeError:
        raise RequestError(
            "sdp-not-utf8", "bytes that are not UTF-8", "a trickle-ice-sdpfrag", _FRAGMENT_CURE
        ) from None
    if any(len(line) < 2 or line[1] != "=" for line in lines):
        raise RequestError(
            "sdp-bad-fragment", "a line that is not of the form x=...", "a trickle-ice-sdpfrag", _FRAGMENT_CURE
        )
    return _candidates(lines), _ufrags(lines)


def with_bitrates(answer: str, start: int, lowest: int, highest: int) -> str:
    """Return the answer with the bit rates (bit/s) to send at: TIAS for all, and the fmtp parameters of Chromium."""
    kbps = f"x-google-min-bitrate={lowest // 1000};x-google-start-bitrate={start // 1000}"
    kbps += f";x-google-max-bitrate={highest // 1000}"
    lines: list[str] = []
    video = False
    with_fmtp: set[str] = set()
    for line in answer.split("\r\n"):
        if line.startswith("m="):
            video = line.startswith("m=video ")
        codec = video and line.startswith("a=fmtp:") and "apt=" not in line
        if codec:
            with_fmtp.add(line[7:].partition(" ")[0])
        lines.append(f"{line};{kbps}" if codec else line)
        if video and line.startswith("c="):
            lines.append(f"b=TIAS:{highest}")
        match = re.fullmatch(r"a=rtpmap:(\d+) VP8/90000", line)
        if video and match and match[1] not in with_fmtp:
            lines.append(f"a=fmtp:{match[1]} {kbps}")
    return "\r\n".join(lines)


def ice_links(servers: tuple[IceServer, ...]) -> list[str]:
    """Return ``Link`` headers for STUN and TURN servers, TURN with credentials (RFC 9725 section 4.6)."""
    links = []
    for server in servers:
        link = f'<{server.url}>; rel="ice-server"'
        credentials = server.credentials()
        if credentials is not None:
            username, credential = (_quote(each) for each in credentials)
            link += f'; username={username}; credential={credential}; credential-type="password"'
        links.append(link)
    return links


def _check_sections(lines: list[str], direction: str) -> None:
    sections = _split_sections(lines)[1:]
    if not 0 < len(sections) <= _MAX_SECTIONS:
        raise RequestError(
            "sdp-media-sections", f"{len(sections)} media sections", f"1 to {_MAX_SECTIONS}", _OFFER_CURE
        )
    videos = [section for section in sections if section[0].startswith("m=video ")]
    if not videos:
        raise RequestError("sdp-no-video", "no video", f"a video section that is {direction}", _OFFER_CURE)
    if not any(line.startswith("a=fingerprint:") for line in lines):
        raise RequestError("sdp-no-fingerprint", "no fingerprint", "an offer for DTLS-SRTP", _OFFER_CURE)
    others = {"sendonly": ("a=recvonly", "a=inactive"), "recvonly": ("a=sendonly", "a=inactive")}[direction]
    if all(any(line in others for line in section) for section in videos):
        raise RequestError(
            "sdp-video-direction", "video of another direction", f"a video section that is {direction}", _OFFER_CURE
        )
    _check_mids(lines, sections)
    for section in sections:
        _check_codecs(section)


def _check_codecs(section: list[str]) -> None:
    """Bound the lines on which aiortc could spend seconds and gigabytes, while everything else waits."""
    for start, most in _MAX_LINES.items():
        count = sum(line.startswith(start) for line in section)
        if count > most:
            raise RequestError(
                "sdp-too-many-lines", f"{count} lines of {start} in a section", f"{most} at most", _OFFER_CURE
            )
    mapped: set[int] = set()
    for line in section:
        if not line.startswith("a=rtpmap:"):
            continue
        written = line[9:].partition(" ")[0]
        number = int(written) if re.fullmatch("[0-9]{1,3}", written) else -1
        if number not in _PAYLOAD_TYPES or number in mapped:
            raise RequestError(
                "sdp-bad-payload-type",
                f"a=rtpmap:{written[:20]}",
                "each payload type from 0 to 127 at most once",
                _OFFER_CURE,
            )
        mapped.add(number)


def _check_mids(lines: list[str], sections: list[list[str]]) -> None:
    """Check that BUNDLE names existing sections: aiortc does not."""
    of_sections = [[line[6:] for line in section if line.startswith("a=mid:")] for section in sections]
    mids = [mid for of_section in of_sections for mid in of_section]
    if any(len(of_section) > 1 for of_section in of_sections) or len(set(mids)) < len(mids):
        raise RequestError(
            "sdp-ambiguous-mid", "a section with several a=mid, or a repeated one", "one for each section", _OFFER_CURE
        )
    bundled = {mid for line in lines if line.startswith("a=group:BUNDLE") for mid in line.split()[1:]}
    unknown = bundled.difference(mids)
    if unknown:
        raise RequestError(
            "sdp-unknown-bundle", f"a BUNDLE of {min(unknown)[:80]!r}", "the a=mid of existing sections", _OFFER_CURE
        )


def _has_sound(lines: list[str], codecs: tuple[str, ...]) -> bool:
    """Return whether the first section of sound names one of these codecs."""
    sections = [section for section in _split_sections(lines)[1:] if section[0].startswith("m=audio ")]
    if not sections:
        return False
    named = {line.partition(" ")[2].partition("/")[0].lower() for line in sections[0] if line.startswith("a=rtpmap:")}
    return not named.isdisjoint(codecs)


def _with_names(lines: list[str]) -> list[str]:
    """Return an offer that names all codecs of sound with a=rtpmap: aiortc knows no static payload types."""
    named: list[str] = []
    for section in _split_sections(lines):
        named += section
        if section and section[0].startswith("m=audio "):
            # m=audio PORT PROTOCOL TYPE...
            types = [each for each in section[0].split()[3:] if each in _STATIC_SOUND]
            missing = [each for each in types if not any(line.startswith(f"a=rtpmap:{each} ") for line in section)]
            named += [f"a=rtpmap:{each} {_STATIC_SOUND[each]}" for each in dict.fromkeys(missing)]
    return named


def _split_sections(lines: list[str]) -> list[list[str]]:
    """Return the session's own lines, then those of each media section."""
    sections: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("m="):
            sections.append([])
        sections[-1].append(line)
    return sections


def _candidates(lines: list[str]) -> tuple[Candidate, ...]:
    """Return every candidate. Those before the first section belong to it, as in a fragment without sections."""
    found: list[Candidate] = []
    for at, section in enumerate(_split_sections(lines)):
        mid = next((line[6:] for line in section if line.startswith("a=mid:")), None)
        found += [Candidate(mid, max(0, at - 1), line[12:]) for line in section if line.startswith("a=candidate:")]
    if len(found) > MAX_CANDIDATES:
        raise RequestError(
            "sdp-too-many-candidates", f"{len(found)} candidates", f"{MAX_CANDIDATES} at most", _OFFER_CURE
        )
    return tuple(found)


def _ufrags(lines: list[str]) -> frozenset[str]:
    return frozenset(line[12:] for line in lines if line.startswith("a=ice-ufrag:"))


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
