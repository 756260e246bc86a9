"""The media server as a whole: real processes, real WebRTC, a foreign client on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from engines.errors import AddressInUse, SinkLost, SinkMissing, SourceEnded
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.webrtc.link import MediaLink
from realtime.webrtc.settings import IceServer, ServerSettings
from tests.support.media import SIZE, Client, EchoCallbacks, Pattern, PatternTrack, serve
from tests.support.waiting import soon, until
from tools.bench_webrtc import drift
from tools.support.webrtc_client import numbered

pytestmark = pytest.mark.usefixtures("only_loopback")
ROOT = Path(__file__).parents[2]
PERIOD_MS = 1000 / 30


@pytest.fixture
def callbacks() -> EchoCallbacks:
    return EchoCallbacks()


def lives(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def lags_ms(client: Client, track: PatternTrack) -> list[float]:
    """Return the times from sending a frame to receiving it again."""
    return [(seen - track.sent_ns[number]) / 1e6 for number, seen in client.numbers if number in track.sent_ns]


def only(codec: str) -> Callable[[Client], None]:
    def choose(client: Client) -> None:
        from aiortc import RTCRtpSender

        known = RTCRtpSender.getCapabilities("video").codecs
        for each in client.connection.getTransceivers():
            each.setCodecPreferences([one for one in known if one.name in (codec, "rtx")])

    return choose


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_a_viewer_sees_the_publisher_with_little_delay(callbacks: EchoCallbacks, codec: str) -> None:
    link = serve(callbacks, codecs=(codec,))

    async def check() -> None:
        track = PatternTrack()
        async with Client(link.address) as publisher, Client(link.address) as viewer:
            await publisher.publish(track)
            await soon(lambda: callbacks.lags_ms)
            await viewer.watch(publisher.watch_path)
            await viewer.until(90)
            numbers = [number for number, _ in viewer.numbers]
            assert numbers == sorted(set(numbers))
            assert viewer.sizes == {SIZE}
            # the client has aiortc's own frame of delay; the best quarter counts, as other programs may run
            assert np.percentile(lags_ms(viewer, track), 25) < 2.5 * PERIOD_MS
            assert np.percentile(callbacks.lags_ms, 25) < PERIOD_MS / 2
            await soon(lambda: link.stats()["sessions"])
            (figures,) = link.stats()["sessions"].values()
            assert figures["codec"] == codec
            await soon(lambda: next(iter(link.stats()["sessions"].values()))["encoders"])
            assert 0 <= figures["dropped"] < figures["frames"]
            assert await publisher.delete() == 200
        await soon(lambda: callbacks.closed_sessions)

    try:
        asyncio.run(check())
        assert not callbacks.opened
    finally:
        link.close()


def test_obs_is_answered_completely_although_it_offers_no_candidates(link: MediaLink, callbacks: EchoCallbacks) -> None:
    def as_obs(offer: str) -> str:
        kept = [line for line in offer.split("\r\n") if "candidate" not in line]
        return "\r\n".join(kept)

    async def check() -> None:
        async with Client(link.address) as publisher:
            publisher.connection.addTransceiver("audio", "sendonly")
            video: Any = PatternTrack()
            publisher.connection.addTransceiver("video", "sendonly").sender.replaceTrack(video)
            answer = await publisher.exchange("/whip", edit=as_obs)
            sound, picture = re.split(r"(?=m=video)", answer)
            assert "a=recvonly" in sound
            assert "a=recvonly" in picture
            assert "a=candidate:" in picture
            assert "a=end-of-candidates" in picture
            await soon(lambda: len(callbacks.lags_ms) > 30)

    asyncio.run(check())


def test_a_viewer_may_offer_sound_and_connect_at_any_time(link: MediaLink, callbacks: EchoCallbacks) -> None:
    async def check() -> None:
        pattern = Pattern(link)
        try:
            async with Client(link.address) as first:
                await first.watch(sound=True)
                await first.until(30)
                for _ in range(3):
                    async with Client(link.address) as other:
                        started = time.monotonic()
                        await other.watch()
                        await other.until(5)
                        assert time.monotonic() - started < 3
                        assert await other.delete() == 200
                before = len(first.numbers)
                await first.until(before + 30)
                gaps = np.diff([seen for _, seen in first.numbers[30:]]) / 1e6
                assert np.median(gaps) < 2 * PERIOD_MS
        finally:
            pattern.close()
        assert not callbacks.opened

    asyncio.run(check())


def test_the_control_channel_reaches_the_callbacks_in_order_and_back(link: MediaLink, callbacks: EchoCallbacks) -> None:
    async def check() -> None:
        async with Client(link.address) as publisher:
            channel = await publisher.publish(control=True)
            await soon(lambda: channel.readyState == "open")
            for number in range(20):
                channel.send(f'{{"v":1,"id":{number},"command":"next_portrait"}}')
            async with asyncio.timeout(5):
                replies = [await publisher.replies.get() for _ in range(20)]
            assert [reply["id"] for reply in replies] == list(range(20))
            (session,) = callbacks.opened
            assert {asked for asked, _ in callbacks.messages} == {session}
            link.push(session, {"v": 1, "state": {"fps": 30}})
            async with asyncio.timeout(5):
                assert (await publisher.replies.get())["state"] == {"fps": 30}

            channel.send(b"\x00" * 5000)
            async with asyncio.timeout(5):
                assert (await publisher.replies.get())["error"]["code"] == "control-message-too-long"
            for _ in range(200):
                channel.send("{}")
            async with asyncio.timeout(10):
                while (await publisher.replies.get()).get("error", {}).get("code") != "control-too-many-messages":
                    pass
            assert len(callbacks.messages) < 150

    asyncio.run(check())


def test_a_full_server_is_answered_503(callbacks: EchoCallbacks) -> None:
    callbacks.limit = 1
    link = serve(callbacks, max_viewers=0)

    async def check() -> None:
        async with Client(link.address) as first, Client(link.address) as second:
            await first.publish()
            with pytest.raises(aiohttp.ClientResponseError) as raised:
                await second.publish()
            assert raised.value.status == 503
            assert raised.value.headers is not None
            assert raised.value.headers["Retry-After"] == "8"
            await soon(lambda: callbacks.lags_ms)
        await soon(lambda: callbacks.closed_sessions)
        async with Client(link.address) as first, Client(link.address) as one, Client(link.address) as two:
            await first.publish()
            await soon(lambda: len(callbacks.closed_sessions) == 1 and callbacks.opened)
            await one.watch(first.watch_path)
            with pytest.raises(aiohttp.ClientResponseError) as raised:
                await two.watch(first.watch_path)
            assert raised.value.status == 503

    try:
        asyncio.run(check())
    finally:
        link.close()


def test_sessions_are_separate(link: MediaLink, callbacks: EchoCallbacks) -> None:
    async def check() -> None:
        odd, even = PatternTrack((320, 240)), PatternTrack((160, 128))
        async with Client(link.address) as one, Client(link.address) as two:
            await one.publish(odd)
            await two.publish(even)
            await soon(lambda: len(callbacks.opened) == 2 and len(callbacks.lags_ms) > 20)
            async with Client(link.address) as viewer, Client(link.address) as other:
                await viewer.watch(one.watch_path)
                await other.watch(two.watch_path)
                await viewer.until(30)
                await other.until(30)
                assert (viewer.sizes, other.sizes) == ({(320, 240)}, {(160, 128)})
                # the secret that controls does not let others watch, and the other way round
                for path in (one.location.replace("/whip/", "/whep/"), "/whep/peer"):
                    with pytest.raises(aiohttp.ClientResponseError) as raised:
                        async with Client(link.address) as third:
                            await third.watch(path)
                    assert raised.value.status == 404
                async with viewer.http.delete(link.address + one.watch_path[1:].replace("whep", "whip")) as reply:
                    assert reply.status == 404

    asyncio.run(check())


def lossy(client: Client, pattern: Callable[[int], str]) -> None:
    """Drop packets of a client ("x"), send them twice ("2") or after the next one (">")."""
    transport = client.connection.getTransceivers()[0].receiver.transport.transport
    send, late, count = transport._connection.send, [], 0

    async def mistreat(data: bytes) -> None:
        nonlocal count
        count += 1
        media = 127 < data[0] < 192
        fate = pattern(count) if media else "."
        if fate == ">":
            late.append(data)
            return
        if fate != "x":
            await send(data)
        if fate == "2":
            await send(data)
        while late:
            await send(late.pop())

    transport._send = mistreat


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_loss_reordering_and_duplicates_cost_little(link: MediaLink, callbacks: EchoCallbacks, codec: str) -> None:
    rng = np.random.default_rng(3)

    def fate(_: int) -> str:
        return str(rng.choice(list(".x2>"), p=[0.9, 0.03, 0.03, 0.04]))

    async def check() -> None:
        track = PatternTrack((640, 480), busy=True)
        async with Client(link.address) as publisher:
            video: Any = track
            publisher.connection.addTransceiver("video", "sendonly").sender.replaceTrack(video)
            only(codec)(publisher)
            lossy(publisher, fate)
            await publisher.exchange("/whip")
            await soon(lambda: len(callbacks.lags_ms) > 20)
            before, sent = len(callbacks.lags_ms), len(track.sent_ns)
            await soon(lambda: len(track.sent_ns) >= sent + 120, timeout_s=60)
            # with the jitter buffer of aiortc a gap costs seconds
            assert len(callbacks.lags_ms) - before > 60
            (figures,) = link.stats()["sessions"].values()
            assert figures["lost"] != 0 or figures["frames"] > 100

    asyncio.run(check())


def test_a_viewers_estimate_sets_only_its_own_rate(link: MediaLink) -> None:
    async def check() -> None:
        sink = link.sink("main", (640, 480))
        async with Client(link.address) as narrow, Client(link.address) as wide:
            over = asyncio.Event()

            async def send() -> None:
                number = 0
                while not over.is_set():
                    number += 1
                    now = time.monotonic_ns()
                    pixels = numbered((640, 480), number, busy=True)
                    sink.send(Frame(pixels, PixelFormat.I420, number, Stamps(now), now))
                    await asyncio.sleep(1 / 30)

            sending = asyncio.create_task(send())
            await soon(link.stats)
            await narrow.watch()
            await wide.watch()
            receiver: Any = narrow.connection.getTransceivers()[0].receiver
            estimator = receiver._RTCRtpReceiver__remote_bitrate_estimator
            estimator.add = lambda **packet: (300_000, [packet["ssrc"]])

            def rates() -> list[int]:
                viewers = link.stats()["streams"]["main"]["viewers"]
                return sorted(viewer.get("target_bitrate") or 0 for viewer in viewers)

            await soon(lambda: len(rates()) == 2 and 230_000 < rates()[0] <= 300_000)
            assert rates()[1] > 1_000_000
            over.set()
            await sending
        sink.close()

    asyncio.run(check())


def test_a_viewer_gets_a_key_frame_after_a_loss(link: MediaLink) -> None:
    pattern = Pattern(link)

    async def check() -> None:
        async with Client(link.address) as viewer:
            await viewer.watch()
            await viewer.until(20)
            before = viewer.keys
            receiver: Any = viewer.connection.getTransceivers()[0].receiver
            (source,) = receiver._RTCRtpReceiver__remote_streams
            await receiver._send_rtcp_pli(source)
            await soon(lambda: viewer.keys > before, timeout_s=5)
            assert viewer.keys > before

    try:
        asyncio.run(check())
    finally:
        pattern.close()


PUBLISH = """
    import asyncio, sys
    from tests.support.media import Client

    async def publish():
        async with Client(sys.argv[1]) as client:
            if sys.argv[2] == "publish":
                await client.publish()
            else:
                await client.watch()
                await client.until(3)
            print("ready", flush=True)
            await asyncio.sleep(100)

    asyncio.run(publish())
"""


@contextlib.contextmanager
def client_process(link: MediaLink, what: str) -> Iterator[subprocess.Popen[str]]:
    """Run a client in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(PUBLISH), link.address, what]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_peers_that_vanish_are_cleaned_up(callbacks: EchoCallbacks) -> None:
    link = serve(callbacks, peer_timeout_s=6.0)
    pattern = Pattern(link)
    try:
        until(link.stats)
        held = descriptors(link.process_id)
        with client_process(link, "publish") as publisher, client_process(link, "watch") as viewer:
            until(lambda: callbacks.lags_ms and link.stats()["viewers"] == 1)
            publisher.kill()
            viewer.kill()
            gone = time.monotonic()
            until(lambda: callbacks.closed_sessions and link.stats()["viewers"] == 0)
            assert time.monotonic() - gone < 7.5
        assert not callbacks.opened
        until(lambda: descriptors(link.process_id) <= held)
    finally:
        pattern.close()
        link.close()


def test_a_viewer_that_hangs_does_not_delay_others(link: MediaLink) -> None:
    pattern = Pattern(link)

    async def check() -> None:
        async with Client(link.address) as viewer:
            await viewer.watch()
            await viewer.until(10)
            before = len(viewer.numbers)
            await viewer.until(before + 60)
            gaps = np.diff([seen for _, seen in viewer.numbers[before:]]) / 1e6
            assert np.median(gaps) < 2 * PERIOD_MS

    try:
        with client_process(link, "watch") as slow:
            slow.send_signal(signal.SIGSTOP)
            asyncio.run(check())
    finally:
        pattern.close()


def test_a_media_process_that_dies_is_restarted(callbacks: EchoCallbacks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.webrtc.link._RESTART_DELAYS_S", (0.0,))
    notices: list[str] = []
    ends: list[SinkLost] = []
    link = MediaLink(ServerSettings(port=0), callbacks, notices.append, ends.append)
    callbacks.link = link
    address = link.start()
    pattern = Pattern(link)

    async def publish_and_kill() -> None:
        async with Client(address) as publisher:
            await publisher.publish()
            await soon(lambda: callbacks.lags_ms)
            os.kill(link.process_id, signal.SIGKILL)
            await soon(lambda: callbacks.closed_sessions)

    async def watch() -> None:
        async with Client(address) as viewer:
            await viewer.watch()
            await viewer.until(10)

    try:
        first = link.process_id
        asyncio.run(publish_and_kill())
        until(lambda: link.process_id != first and link.stats())
        assert len(notices) == 1
        asyncio.run(watch())
        os.kill(link.process_id, signal.SIGKILL)
        until(lambda: ends)
        assert ends[0].code == "media-process-lost"
        until(lambda: pattern.failed)
        with pytest.raises(SinkMissing):
            link.sink("main", SIZE)
        with pytest.raises(SourceEnded):
            link.source("gone", 30)
    finally:
        pattern.close()
        link.close()
    assert not callbacks.opened


MAIN_PROCESS = """
    import time
    from tests.support.media import EchoCallbacks, Pattern, serve

    link = serve(EchoCallbacks())
    pattern = Pattern(link)
    print(link.process_id, flush=True)
    time.sleep(100)
"""


def test_the_media_process_ends_with_a_killed_main_process_and_leaves_nothing_behind() -> None:
    before = set(os.listdir("/dev/shm"))
    command = [sys.executable, "-c", textwrap.dedent(MAIN_PROCESS)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as main:
        assert main.stdout is not None
        pid = int(main.stdout.readline())
        assert lives(pid)
        main.kill()
        main.wait()
        until(lambda: not lives(pid), timeout_s=3)
    assert set(os.listdir("/dev/shm")) == before


def test_closing_is_quick_and_closes_the_sessions(callbacks: EchoCallbacks) -> None:
    link = serve(callbacks)

    async def publish() -> None:
        async with Client(link.address) as publisher:
            await publisher.publish()
            await soon(lambda: callbacks.lags_ms)
            started = time.monotonic()
            await asyncio.to_thread(link.close)
            assert time.monotonic() - started < 2.0

    asyncio.run(publish())
    assert not callbacks.opened
    assert not lives(link.process_id)
    link.close()


def test_a_port_in_use_is_an_error(link: MediaLink, callbacks: EchoCallbacks) -> None:
    port = int(link.address.rstrip("/").rpartition(":")[2])
    with pytest.raises(AddressInUse) as caught:
        MediaLink(ServerSettings(port=port), callbacks).start()
    assert "webrtc:HOST:PORT" in caught.value.cure


def test_a_dead_stun_server_does_not_delay_the_answer(callbacks: EchoCallbacks) -> None:
    link = serve(callbacks, ice_servers=(IceServer("stun:127.0.0.1:9"),), gather_timeout_s=0.5)

    async def check() -> None:
        async with Client(link.address) as publisher:
            started = time.monotonic()
            await publisher.publish()
            assert time.monotonic() - started < 2.0
            assert 'rel="ice-server"' in publisher.links
            await soon(lambda: callbacks.lags_ms)

    try:
        asyncio.run(check())
    finally:
        link.close()


def test_a_callback_that_fails_is_answered_500(
    link: MediaLink, callbacks: EchoCallbacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    async def check() -> None:
        monkeypatch.setattr(callbacks, "open", fail)
        async with Client(link.address) as publisher:
            with pytest.raises(aiohttp.ClientResponseError) as raised:
                await publisher.publish()
            assert raised.value.status == 500
        monkeypatch.undo()
        async with Client(link.address) as publisher:
            await publisher.publish()
            await soon(lambda: callbacks.lags_ms)

    asyncio.run(check())


def test_publishers_that_come_and_go_leave_nothing_behind(tmp_path: Path) -> None:
    """Measured in a process of its own, so that other tests do not count."""
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tools.bench_webrtc", "churn", "--publishers", "30", "--json", str(out)]
    subprocess.run(command, cwd=ROOT, check=True)
    (figure,) = json.loads(out.read_text())["figures"]
    assert figure["met"], figure["value"]


def test_a_reader_that_is_too_slow_does_not_fall_behind() -> None:
    (figure,) = drift(20.0)
    assert figure.met, figure.value
