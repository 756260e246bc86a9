"""Sound through the media server: real processes and real WebRTC on loopback."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from realtime.core.sound import SoundPacket
from realtime.webrtc.link import MediaLink
from tests.support.media import EchoCallbacks
from tests.support.waiting import soon
from tools.support.claps import ClapPublisher, ClapViewer

pytestmark = pytest.mark.usefixtures("only_loopback")
WORK_S = 0.03
"""What the generator takes, in place of which frames are sent back."""
BOUND_MS = 150
"""Generous, for machines on which other programs run; tools.bench_latency has the figures."""


@pytest.fixture
def callbacks() -> EchoCallbacks:
    return EchoCallbacks(work_s=WORK_S)


@pytest.mark.parametrize(
    ("rate", "codec"), [(48_000, "opus"), (8_000, "PCMU"), (96_000, "opus")], ids=["opus", "8 kHz mono", "96 kHz"]
)
def test_a_viewer_hears_each_clap_with_its_flash(
    link: MediaLink, callbacks: EchoCallbacks, rate: int, codec: str
) -> None:
    async def check() -> None:
        async with ClapPublisher(link.address) as publisher, ClapViewer(link.address) as viewer:
            await publisher.clap(rate, codec)
            await soon(lambda: callbacks.lags_ms)
            await viewer.see_and_hear(publisher.watch_path)
            await soon(lambda: len(viewer.offsets_ms()) >= 6)
            assert abs(np.median(viewer.offsets_ms())) < BOUND_MS
            await soon(lambda: any(each.get("sounds") for each in link.stats().get("sessions", {}).values()))

    asyncio.run(check())


def test_a_muted_publisher_is_seen_and_not_heard(link: MediaLink, callbacks: EchoCallbacks) -> None:
    async def check() -> None:
        async with ClapPublisher(link.address) as publisher, ClapViewer(link.address) as viewer:
            await publisher.clap()
            await soon(lambda: callbacks.lags_ms)
            (session,) = callbacks.opened
            link.mute(session, True)
            await viewer.see_and_hear(publisher.watch_path)
            await soon(lambda: len(viewer.flashes_s) >= 4)
            assert viewer.sounds == 0
            link.mute(session, False)
            await soon(lambda: viewer.claps_s)

    asyncio.run(check())


def test_sound_never_crosses_sessions(link: MediaLink, callbacks: EchoCallbacks) -> None:
    heard: list[SoundPacket] = []

    async def check() -> None:
        async with ClapPublisher(link.address) as loud, ClapPublisher(link.address) as quiet:
            await loud.clap()
            await soon(lambda: callbacks.lags_ms)
            (first,) = callbacks.opened
            await quiet.clap()
            await soon(lambda: len(callbacks.opened) == 2)
            (second,) = set(callbacks.opened) - {first}
            link.mute(second, True)
            link.hear(second, heard.append)
            async with ClapViewer(link.address) as of_loud, ClapViewer(link.address) as of_quiet:
                await of_loud.see_and_hear(loud.watch_path)
                await soon(lambda: of_loud.flashes_s)
                await of_quiet.see_and_hear(quiet.watch_path)
                heard.clear()
                await soon(lambda: len(of_loud.claps_s) >= 4 and len(of_quiet.flashes_s) >= 4)
                assert of_quiet.sounds == 0
                assert not heard
                link.mute(second, False)
                await soon(lambda: heard)

    asyncio.run(check())


def test_the_picture_goes_on_when_the_sound_stops(link: MediaLink, callbacks: EchoCallbacks) -> None:
    async def check() -> None:
        async with ClapPublisher(link.address) as publisher, ClapViewer(link.address) as viewer:
            await publisher.clap()
            await soon(lambda: callbacks.lags_ms)
            await viewer.see_and_hear(publisher.watch_path)
            await soon(lambda: viewer.claps_s)
            sound = next(each for each in publisher.connection.getTransceivers() if each.kind == "audio")
            await sound.sender.stop()
            seen = len(viewer.flashes_s)
            # what was on its way is heard meanwhile
            await soon(lambda: len(viewer.flashes_s) >= seen + 2)
            heard, last_flash_s = len(viewer.claps_s), viewer.flashes_s[-1]
            await soon(lambda: len(viewer.flashes_s) >= seen + 6)
            assert viewer.flashes_s[-1] > last_flash_s
            assert len(viewer.claps_s) == heard

    asyncio.run(check())
