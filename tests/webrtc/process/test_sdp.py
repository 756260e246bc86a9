"""SDP offers, fragments and answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiortc.sdp import SessionDescription
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import RequestError
from realtime.webrtc.process.sdp import MAX_CANDIDATES, ice_links, read_fragment, read_offer, with_bitrates
from realtime.webrtc.settings import IceServer

CANDIDATE = "a=candidate:1 1 udp 2130706431 192.0.2.7 5000 typ host"
# as OBS 30 offers: sound first, no candidates
OBS = "\r\n".join(
    [
        "v=0",
        "o=rtc 3767197920 0 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0 1",
        "a=group:LS 0 1",
        "a=msid-semantic:WMS *",
        "a=setup:actpass",
        "a=ice-ufrag:Vk2m",
        "a=ice-pwd:GTjRRFrXpBqhYMVmHFbbLA",
        "a=ice-options:trickle",
        "a=fingerprint:sha-256 " + ":".join(["AB"] * 32),
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        "a=sendonly",
        "a=ssrc:1 cname:x",
        "a=rtcp-mux",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;maxaveragebitrate=96000;stereo=1;sprop-stereo=1;useinbandfec=1",
        "m=video 9 UDP/TLS/RTP/SAVPF 96",
        "c=IN IP4 0.0.0.0",
        "a=mid:1",
        "a=sendonly",
        "a=ssrc:2 cname:x",
        "a=rtcp-mux",
        "a=rtpmap:96 H264/90000",
        "a=rtcp-fb:96 nack",
        "a=rtcp-fb:96 nack pli",
        "a=rtcp-fb:96 goog-remb",
        "a=fmtp:96 profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1",
        "",
    ]
)


@pytest.mark.parametrize(("kind", "name"), [("0", "PCMU"), ("8", "PCMA"), ("9", "G722")])
def test_sound_of_a_static_payload_type_needs_no_name(kind: str, name: str) -> None:
    lines = OBS.replace("RTP/SAVPF 111", f"RTP/SAVPF {kind}").split("\r\n")
    offer = read_offer("\r\n".join(line for line in lines if ":111 " not in line).encode(), "sendonly")
    assert offer.sound
    (sound, _) = SessionDescription.parse(offer.text).media
    assert [codec.name for codec in sound.rtp.codecs] == [name]
    # viewers get Opus
    assert not read_offer(offer.text.replace("a=sendonly", "a=recvonly").encode(), "recvonly").sound


def test_an_offer_of_obs_is_accepted() -> None:
    offer = read_offer(OBS.encode(), "sendonly")
    assert offer.text == OBS
    assert offer.candidates == ()
    assert offer.ufrags == {"Vk2m"}


def test_candidates_are_removed_and_keep_their_section() -> None:
    text = OBS.replace("a=mid:1\r\n", f"a=mid:1\r\n{CANDIDATE}\r\na=end-of-candidates\r\n")
    offer = read_offer(text.encode(), "sendonly")
    assert offer.text == OBS
    (candidate,) = offer.candidates
    assert (candidate.mid, candidate.section) == ("1", 1)
    assert candidate.text == CANDIDATE.removeprefix("a=candidate:")


def test_an_offer_of_all_possible_codecs_is_accepted() -> None:
    codecs = "".join(f"a=rtpmap:{each} X/90000\r\na=rtcp-fb:{each} nack\r\n" for each in range(128) if each != 96)
    text = OBS + codecs + "a=rtcp-fb:* ccm fir\r\n"
    assert read_offer(text.encode(), "sendonly").text == text


def test_unix_line_ends_are_accepted() -> None:
    assert read_offer(OBS.replace("\r\n", "\n").encode(), "sendonly").text == OBS


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "sdp-not-sdp"),
        (b"hello", "sdp-not-sdp"),
        (b"\xff\xfe", "sdp-not-utf8"),
        (b"v=0\r\n", "sdp-media-sections"),
        (OBS.partition("m=video")[0].encode(), "sdp-no-video"),
        (OBS.replace("a=sendonly", "a=recvonly").encode(), "sdp-video-direction"),
        (OBS.replace("a=sendonly", "a=inactive").encode(), "sdp-video-direction"),
        (OBS.replace("fingerprint", "other").encode(), "sdp-no-fingerprint"),
        (OBS.replace("s=-", "s=\0").encode(), "sdp-control-characters"),
        (OBS.replace("a=mid:0\r\n", "").encode(), "sdp-unknown-bundle"),
        (OBS.replace("BUNDLE 0 1", "BUNDLE 0 x").encode(), "sdp-unknown-bundle"),
        (OBS.replace("a=mid:1", "a=mid:0").encode(), "sdp-ambiguous-mid"),
        (OBS.replace("a=mid:1", "a=mid:1\r\na=mid:2").encode(), "sdp-ambiguous-mid"),
        ((OBS + "m=audio 9 X 1\r\n" * 9).encode(), "sdp-media-sections"),
        (OBS.replace("s=-", "s=-\u2028a=x").encode(), "sdp-control-characters"),
        ((OBS + "a=rtpmap:96 VP8/90000\r\n").encode(), "sdp-bad-payload-type"),
        ((OBS + "a=rtpmap:096 VP8/90000\r\n").encode(), "sdp-bad-payload-type"),
        ((OBS + "a=rtpmap:128 VP8/90000\r\n").encode(), "sdp-bad-payload-type"),
        ((OBS + "a=rtpmap:x VP8/90000\r\n").encode(), "sdp-bad-payload-type"),
        ((OBS + "a=rtcp-fb:96 nack\r\n" * 512).encode(), "sdp-too-many-lines"),
        ((OBS + "a=rtcp-fb:* nack\r\n" * 33).encode(), "sdp-too-many-lines"),
        ((OBS + "a=fmtp:96 x\r\n" * 256).encode(), "sdp-too-many-lines"),
        ((OBS + "a=ssrc:2 cname:x\r\n" * 256).encode(), "sdp-too-many-lines"),
        ((OBS + f"{CANDIDATE}\r\n" * (MAX_CANDIDATES + 1)).encode(), "sdp-too-many-candidates"),
    ],
)
def test_a_bad_offer_is_refused_with_its_code(body: bytes, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_offer(body, "sendonly")
    error = caught.value
    assert (error.code, error.status) == (code, 400)
    assert error.found
    assert error.expected
    assert error.cure


def code_of(read: Callable[[], object]) -> str:
    """Return the code of the error that a reader raises, or nothing if it accepts its input."""
    try:
        read()
    except RequestError as error:
        return error.code
    return ""


@given(st.binary(max_size=300))
def test_no_bytes_break_the_readers(body: bytes) -> None:
    # an offer needs a video section and a fingerprint
    assert code_of(lambda: read_offer(b"v=0\n" + body, "recvonly"))
    code_of(lambda: read_fragment(body))


@given(st.lists(st.sampled_from(OBS.split("\r\n")), max_size=40))
def test_lines_in_any_order_are_an_offer_if_there_is_video_and_a_fingerprint(lines: list[str]) -> None:
    text = "\n".join(["v=0", *lines])
    code = code_of(lambda: read_offer(text.encode(), "sendonly"))
    if 0 < text.count("\nm=") <= 8 and "\nm=video" in text and "\na=fingerprint" in text:
        assert code in ("", "sdp-ambiguous-mid", "sdp-unknown-bundle")
    else:
        assert code in ("sdp-media-sections", "sdp-no-video", "sdp-no-fingerprint")


def test_a_fragment_is_read() -> None:
    text = (
        f"a=ice-ufrag:EsAw\r\na=ice-pwd:x\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n{CANDIDATE}\r\na=end-of-candidates\r\n"
    )
    candidates, ufrags = read_fragment(text.encode())
    assert [(each.mid, each.section) for each in candidates] == [("0", 0)]
    assert ufrags == {"EsAw"}
    candidates, _ = read_fragment(f"{CANDIDATE}\r\n".encode())
    assert [(each.mid, each.section) for each in candidates] == [(None, 0)]


def test_the_answer_names_bit_rates_for_video_only() -> None:
    answer = "\r\n".join(
        [
            "v=0",
            "m=audio 9 UDP/TLS/RTP/SAVPF 111",
            "c=IN IP4 0.0.0.0",
            "a=fmtp:111 useinbandfec=1",
            "m=video 9 UDP/TLS/RTP/SAVPF 96 97 98",
            "c=IN IP4 0.0.0.0",
            "a=rtpmap:96 H264/90000",
            "a=fmtp:96 packetization-mode=1",
            "a=rtpmap:97 rtx/90000",
            "a=fmtp:97 apt=96",
            "a=rtpmap:98 VP8/90000",
            "",
        ]
    )
    rates = "x-google-min-bitrate=250;x-google-start-bitrate=2500;x-google-max-bitrate=6000"
    lines = with_bitrates(answer, 2_500_000, 250_000, 6_000_000).split("\r\n")
    assert "a=fmtp:111 useinbandfec=1" in lines
    assert f"a=fmtp:96 packetization-mode=1;{rates}" in lines
    assert "a=fmtp:97 apt=96" in lines
    assert f"a=fmtp:98 {rates}" in lines
    assert lines[lines.index("m=video 9 UDP/TLS/RTP/SAVPF 96 97 98") + 2] == "b=TIAS:6000000"
    assert sum(line.startswith("b=") for line in lines) == 1


def test_ice_servers_are_links_with_credentials() -> None:
    servers = (IceServer("stun:stun.example.org"), IceServer("turn:turn.example.org?transport=udp", 'a"b', "c"))
    stun, turn = ice_links(servers)
    assert stun == '<stun:stun.example.org>; rel="ice-server"'
    assert turn == (
        '<turn:turn.example.org?transport=udp>; rel="ice-server"; username="a\\"b"; credential="c"'
        '; credential-type="password"'
    )
