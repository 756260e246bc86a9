"""Session descriptions: what an offer must have, and what the answer adds that aiortc does not write."""

from __future__ import annotations

import re
from dataclasses import dataclass

from realtime.webrtc.settings import IceServer

MOST_CANDIDATES = 40
_MOST_SECTIONS = 8
_MOST_LINES = {"a=rtcp-fb:": 512, "a=rtcp-fb:*": 32, "a=fmtp:": 256, "a=ssrc:": 256}
"""In a section; browsers send less than a hundred. aiortc goes through all codecs for each, or all that came before."""
_PAYLOAD_TYPES = range(128)


class SdpError(ValueError):
    """An offer or fragment that cannot be used; says what was found and expected, and the HTTP status for it."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Candidate:
    """An ICE candidate as it was written, and its section."""

    mid: str | None
    section: int
    text: str


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer, taken apart as far as is needed."""

    text: str
    """Without its candidates, which are told to ICE by and by: names among them take time to look up."""
    candidates: tuple[Candidate, ...]
    ufrags: frozenset[str]


def read_offer(body: bytes, direction: str) -> Offer:
    """Check an offer's frame: one video section at least that goes in ``direction`` (sendonly or recvonly).

    Raises SdpError.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise SdpError("found bytes that are not UTF-8, expected SDP") from None
    lines = [line for line in text.replace("\r\n", "\n").split("\n") if line]
    if not lines or lines[0] != "v=0":
        raise SdpError("found no SDP, expected an offer that begins with v=0")
    if "\0" in text or "\n".join(lines).splitlines() != lines:
        # aiortc ends a line at any of these, so that what is counted here would not be what it reads
        raise SdpError("found control characters, expected SDP")
    _check_sections(lines, direction)
    kept = [line for line in lines if not line.startswith(("a=candidate:", "a=end-of-candidates"))]
    ufrags = frozenset(line[12:] for line in lines if line.startswith("a=ice-ufrag:"))
    return Offer("\r\n".join(kept) + "\r\n", _candidates(lines), ufrags)


def _check_sections(lines: list[str], direction: str) -> None:
    sections = _sections(lines)[1:]
    if not 0 < len(sections) <= _MOST_SECTIONS:
        raise SdpError(f"found {len(sections)} media sections, expected 1 to {_MOST_SECTIONS}")
    videos = [section for section in sections if section[0].startswith("m=video ")]
    if not videos:
        raise SdpError(f"found no video, expected a video section that is {direction}")
    if not any(line.startswith("a=fingerprint:") for line in lines):
        raise SdpError("found no fingerprint, expected an offer for DTLS-SRTP")
    others = {"sendonly": ("a=recvonly", "a=inactive"), "recvonly": ("a=sendonly", "a=inactive")}[direction]
    if all(any(line in others for line in section) for section in videos):
        raise SdpError(f"found video of another direction, expected a video section that is {direction}")
    _check_mids(lines, sections)
    for section in sections:
        _check_codecs(section)


def _check_codecs(section: list[str]) -> None:
    """What aiortc would spend seconds and gigabytes on, while everything else waits."""
    for start, most in _MOST_LINES.items():
        count = sum(line.startswith(start) for line in section)
        if count > most:
            raise SdpError(f"found {count} lines of {start} in a section, expected {most} at most")
    mapped: set[int] = set()
    for line in section:
        if not line.startswith("a=rtpmap:"):
            continue
        written = line[9:].partition(" ")[0]
        number = int(written) if re.fullmatch("[0-9]{1,3}", written) else -1
        if number not in _PAYLOAD_TYPES or number in mapped:
            raise SdpError(f"found a=rtpmap:{written[:20]}, expected each payload type from 0 to 127 once at most")
        mapped.add(number)


def _check_mids(lines: list[str], sections: list[list[str]]) -> None:
    """aiortc joins what BUNDLE names without looking whether it is there."""
    each = [[line[6:] for line in section if line.startswith("a=mid:")] for section in sections]
    mids = [mid for of_section in each for mid in of_section]
    if any(len(of_section) > 1 for of_section in each) or len(set(mids)) < len(mids):
        raise SdpError("found a section with several a=mid, or one that another has too, expected a name for each")
    bundled = {mid for line in lines if line.startswith("a=group:BUNDLE") for mid in line.split()[1:]}
    strange = bundled.difference(mids)
    if strange:
        raise SdpError(f"found a BUNDLE of {min(strange)[:80]!r}, expected the a=mid of sections that are there")


def read_fragment(body: bytes) -> tuple[tuple[Candidate, ...], frozenset[str]]:
    """A trickled fragment (RFC 8840): its candidates, and its user fragments. Raises SdpError."""
    try:
        lines = [line for line in body.decode("utf-8").replace("\r\n", "\n").split("\n") if line]
    except UnicodeDecodeError:
        raise SdpError("found bytes that are not UTF-8, expected a trickle-ice-sdpfrag") from None
    if any(len(line) < 2 or line[1] != "=" for line in lines):
        raise SdpError("found a line that is not of the form x=..., expected a trickle-ice-sdpfrag")
    return _candidates(lines), frozenset(line[12:] for line in lines if line.startswith("a=ice-ufrag:"))


def _sections(lines: list[str]) -> list[list[str]]:
    """What comes before the first section, then each section."""
    sections: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("m="):
            sections.append([])
        sections[-1].append(line)
    return sections


def _candidates(lines: list[str]) -> tuple[Candidate, ...]:
    """Every candidate. Those before the first section belong to the first one, as in a fragment without sections."""
    found: list[Candidate] = []
    for at, section in enumerate(_sections(lines)):
        mid = next((line[6:] for line in section if line.startswith("a=mid:")), None)
        found += [Candidate(mid, max(0, at - 1), line[12:]) for line in section if line.startswith("a=candidate:")]
    if len(found) > MOST_CANDIDATES:
        raise SdpError(f"found {len(found)} candidates, expected {MOST_CANDIDATES} at most")
    return tuple(found)


def with_rates(answer: str, start: int, lowest: int, highest: int) -> str:
    """Tell the publisher at which rates (bit/s) to send: TIAS for all, and what Chromium reads out of fmtp."""
    kbps = f"x-google-min-bitrate={lowest // 1000};x-google-start-bitrate={start // 1000}"
    kbps += f";x-google-max-bitrate={highest // 1000}"
    lines: list[str] = []
    video = False
    described: set[str] = set()
    for line in answer.split("\r\n"):
        if line.startswith("m="):
            video = line.startswith("m=video ")
        codec = video and line.startswith("a=fmtp:") and "apt=" not in line
        if codec:
            described.add(line[7:].partition(" ")[0])
        lines.append(f"{line};{kbps}" if codec else line)
        if video and line.startswith("c="):
            lines.append(f"b=TIAS:{highest}")
        match = re.fullmatch(r"a=rtpmap:(\d+) VP8/90000", line)
        if video and match and match[1] not in described:
            lines.append(f"a=fmtp:{match[1]} {kbps}")
    return "\r\n".join(lines)


def ice_links(servers: tuple[IceServer, ...]) -> list[str]:
    """``Link`` headers that tell a client of STUN and TURN servers (RFC 9725 section 4.6), TURN with credentials."""
    links = []
    for server in servers:
        link = f'<{server.url}>; rel="ice-server"'
        credentials = server.credentials()
        if credentials is not None:
            username, credential = (_quoted(each) for each in credentials)
            link += f'; username={username}; credential={credential}; credential-type="password"'
        links.append(link)
    return links


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
