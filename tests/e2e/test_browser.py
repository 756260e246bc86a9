"""The page in Chromium, with a video as its camera, against the real program."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from engines.errors import UsageError
from realtime.capture.performer import Performer
from realtime.capture.source import open_source
from realtime.portraits.bundled import bundled_portraits
from realtime.portraits.portrait import PortraitPicture, load_portrait
from realtime.tracking.still_faces import FaceFinder
from tests.support.browser import (
    background_difference,
    go_live,
    grab,
    motion_correlation,
    shows_a_face,
    wait_for_text,
    wait_live,
)
from tests.support.program import program
from tests.support.system import free_port
from tools.latency.chromium import find_chromium, launch, wait_until, write_camera

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Playwright

SIZE = (640, 480)
OPTIONS = ("--camera", "webrtc", "--sink", "webrtc:127.0.0.1:0", "--size", "640x480")
DEFAULT, OTHER = (portrait.path for portrait in bundled_portraits()[:2])


@pytest.fixture(scope="module", autouse=True)
def _need_browser() -> None:
    try:
        find_chromium()
    except UsageError as error:
        pytest.skip(f"{error}: {error.cure}")


@pytest.fixture(scope="module")
def performance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of the performer, 12 s long, for Chromium's camera."""
    performer = Performer(SIZE)
    path = tmp_path_factory.mktemp("camera") / "performer.mjpeg"
    write_camera(path, (performer.picture(index / 30) for index in range(360)))
    performer.close()
    return path


@pytest.fixture(scope="module")
def play() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(play: Playwright, performance: Path) -> Iterator[Browser]:
    opened = launch(play, performance)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a program with two portraits."""
    folder = tmp_path_factory.mktemp("program")
    options = ("--sessions", "3", "--portrait", str(DEFAULT), "--portrait", str(OTHER))
    with program(folder, *OPTIONS, *options) as (_, url):
        yield url


@pytest.fixture(scope="module")
def default_picture() -> Iterator[PortraitPicture]:
    with FaceFinder() as finder:
        yield load_portrait(DEFAULT, SIZE, finder=finder)


@pytest.fixture
def tab(browser: Browser) -> Iterator[Callable[..., Page]]:
    """A function that opens a page in a new profile. An error on a page fails the test."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_page(url: str, *, width: int = 1280, height: int = 800, **more: object) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, **more)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        # leaving the page ends its session
        for page in context.pages:
            page.goto("about:blank")
        context.close()
    assert not errors


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for screenshots: ``REENACT_SHOTS``, or a temporary one that pytest keeps."""
    folder = Path(os.environ.get("REENACT_SHOTS") or tmp_path_factory.mktemp("shots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_going_live_with_the_performer(
    tab: Callable[..., Page], address: str, default_picture: PortraitPicture, face_finder: FaceFinder
) -> None:
    page = tab(address)
    go_live(page)
    wait_for_text(page, "frames/s")
    lips_r, yaw_r = motion_correlation(page, default_picture, face_finder)
    assert lips_r >= 0.65
    assert yaw_r >= 0.9


def test_going_live_with_a_real_face(
    play: Playwright,
    clips: Path,
    tmp_path: Path,
    address: str,
    default_picture: PortraitPicture,
    face_finder: FaceFinder,
) -> None:
    source = open_source(str(clips / "lp__d6.mp4"), size=SIZE, fps=30.0, pace="max")
    path = write_camera(tmp_path / "driver.mjpeg", (source.read().pixels for _ in range(360)))
    source.close()
    with launch(play, path) as own_browser:
        page = own_browser.new_page()
        page.goto(address)
        go_live(page)
        lips_r, yaw_r = motion_correlation(page, default_picture, face_finder)
        page.goto("about:blank")
    assert lips_r >= 0.6
    assert yaw_r >= 0.6


def test_controls(
    tab: Callable[..., Page], address: str, default_picture: PortraitPicture, face_finder: FaceFinder
) -> None:
    page = tab(address)
    go_live(page)
    page.wait_for_timeout(1500)

    page.get_by_role("button", name="Freeze").click()
    wait_for_text(page, "frozen")
    page.wait_for_timeout(600)
    first, *_, last = grab(page, most=20)
    assert np.abs(first.image.astype(int) - last.image).mean() < 2.0
    page.get_by_role("button", name="Freeze").click()
    assert wait_until(page, "!document.getElementById('badges').innerText.includes('Frozen')", 5)

    page.keyboard.press("s")
    wait_for_text(page, "slate is on")
    page.wait_for_timeout(600)
    assert not face_finder.find(grab(page)[0].image)
    page.keyboard.press("s")
    assert wait_until(page, "!document.getElementById('badges').innerText.includes('Slate')", 5)

    assert wait_until(page, "document.querySelectorAll('#portraits button').length === 2", 10)
    page.locator("#portraits button").nth(1).click()
    assert wait_until(page, _pressed(1), 5)
    page.wait_for_timeout(800)
    assert background_difference(grab(page)[0].image, default_picture.image) > 8

    page.locator("#gain").fill("1.6")
    wait_for_text(page, "gain 1.6")
    page.get_by_label("Head only").check()
    assert wait_until(page, "document.querySelector('input[value=pose]').checked", 5)
    page.get_by_label("Painted").check()
    page.get_by_role("button", name="Calibrate").click()
    page.wait_for_timeout(2500)
    # the server confirms the settings
    assert page.locator("input[value=pose]").is_checked()
    assert page.locator("input[value=painted]").is_checked()
    assert page.locator("#gain").input_value() == "1.6"


def _pressed(index: int) -> str:
    return f"document.querySelector('#portraits button[data-index=\"{index}\"]').ariaPressed === 'true'"


def test_a_picture_that_the_user_adds(tab: Callable[..., Page], address: str, tmp_path: Path) -> None:
    page = tab(address)
    # chosen before going live, it is shown as soon as there is a session
    page.set_input_files("#upload", OTHER)
    page.get_by_role("button", name="Someone who has agreed").click()
    go_live(page)
    assert wait_until(page, "document.querySelectorAll('#portraits button').length === 3", 15)
    assert wait_until(page, _pressed(2), 15)
    rubbish = tmp_path / "rubbish.jpg"
    rubbish.write_bytes(b"not a picture")
    page.set_input_files("#upload", rubbish)
    page.get_by_role("button", name="It shows me").click()
    assert wait_until(page, "document.getElementById('feedback').classList.contains('warn')", 15)
    assert page.locator("#portraits button").count() == 3


def test_a_picture_that_is_dropped(tab: Callable[..., Page], address: str, default_picture: PortraitPicture) -> None:
    page = tab(address)
    go_live(page)
    wait_for_text(page, "frames/s")
    page.evaluate(
        """(bytes) => {
          const dropped = new DataTransfer();
          const picture = Uint8Array.from(atob(bytes), (each) => each.charCodeAt(0));
          dropped.items.add(new File([picture], "friend.png", {type: "image/png"}));
          const options = {dataTransfer: dropped, bubbles: true, cancelable: true};
          for (const kind of ["dragenter", "dragover", "drop"])
            document.body.dispatchEvent(new DragEvent(kind, options));
        }""",
        base64.b64encode(OTHER.read_bytes()).decode(),
    )
    page.get_by_role("button", name="Someone who has agreed").click()
    wait_for_text(page, "friend is shown")
    page.wait_for_timeout(800)
    assert background_difference(grab(page)[0].image, default_picture.image) > 8


def test_a_camera_that_goes_away_is_opened_again(tab: Callable[..., Page], address: str) -> None:
    page = tab(address)
    go_live(page)
    page.evaluate(
        """() => {
          const [track] = document.getElementById("preview").srcObject.getVideoTracks();
          track.stop();
          track.dispatchEvent(new Event("ended"));
        }"""
    )
    wait_for_text(page, "The camera was unplugged")
    back = "document.getElementById('preview').srcObject?.getVideoTracks()[0].readyState === 'live'"
    assert wait_until(page, back, 10)
    page.wait_for_timeout(1500)
    first, *_, last = grab(page, most=30)
    assert np.abs(first.image.astype(int) - last.image).mean() > 0.3


def test_a_viewer_comes_and_goes(tab: Callable[..., Page], address: str, face_finder: FaceFinder) -> None:
    page = tab(address)
    go_live(page)
    link = _link(page)
    assert link.startswith(address)
    viewer = tab(link)
    wait_live(viewer)
    wait_for_text(page, "1 viewer")
    # the slate of the start comes first
    assert shows_a_face(viewer, face_finder, 600)
    # a guest's page has no controls at all
    assert viewer.locator("#go, #controls, input, select").count() == 0
    viewer.goto("about:blank")
    assert wait_until(page, "!document.getElementById('rates').innerText.includes('viewer')", 20)
    assert shows_a_face(page, face_finder)


def test_a_link_to_nothing(tab: Callable[..., Page], address: str) -> None:
    page = tab(f"{address}?watch=unknown")
    wait_for_text(page, "Nothing to see right now")
    assert page.locator("#result").is_hidden()


def test_a_full_server_is_tried_again_by_itself(
    tab: Callable[..., Page], tmp_path: Path, face_finder: FaceFinder
) -> None:
    with program(tmp_path, *OPTIONS, "--sessions", "1") as (_, url):
        first = tab(url)
        go_live(first)
        second = tab(url)
        second.click("#go")
        wait_for_text(second, "The server is full")
        wait_for_text(second, "Trying again")
        first.get_by_role("button", name="Stop").click()
        wait_live(second)
        assert shows_a_face(second, face_finder)


def test_the_page_reconnects_when_the_program_starts_again(
    tab: Callable[..., Page], tmp_path: Path, face_finder: FaceFinder
) -> None:
    sink = f"webrtc:127.0.0.1:{free_port()}"
    options = ["--camera", "webrtc", "--sink", sink, "--size", "640x480", "--sessions", "2"]
    with program(tmp_path, *options) as (_, url):
        page = tab(url)
        go_live(page)
        assert shows_a_face(page, face_finder, 300)
        page.get_by_role("button", name="Mirror").click()
        wait_for_text(page, "mirrored")
        page.wait_for_timeout(1200)
    wait_for_text(page, "connection was lost")
    with program(tmp_path, *options):
        wait_live(page)
        # the settings are restored
        assert wait_until(page, "document.querySelector('[data-command=set_mirror]').ariaPressed === 'true'", 15)
        assert wait_until(page, "document.getElementById('preview').classList.contains('mirrored')", 15)
        page.goto("about:blank")


def test_a_server_with_a_token(tab: Callable[..., Page], tmp_path: Path) -> None:
    with program(tmp_path, *OPTIONS, "--sessions", "1", REENACT_TOKEN="open sesame") as (_, url):
        page = tab(url)
        field = page.get_by_label("Token")
        field.fill("wrong")
        field.press("Enter")
        wait_for_text(page, "That was not the token")
        page.get_by_label("Token").fill("open sesame")
        page.get_by_label("Token").press("Enter")
        wait_for_text(page, "Become this portrait")
        # the token is lost while the page is open
        page.context.clear_cookies()
        page.click("#go")
        wait_for_text(page, "asks for a token")
        assert page.locator("#result").is_hidden()


CAMERAS = {
    "NotAllowedError": "The camera is not allowed",
    "NotFoundError": "No camera found",
    "NotReadableError": "The camera is busy",
}


@pytest.mark.parametrize("name", CAMERAS)
def test_a_camera_that_does_not_open_is_explained(name: str, tab: Callable[..., Page], address: str) -> None:
    page = tab("about:blank")
    page.add_init_script(
        "if (navigator.mediaDevices) navigator.mediaDevices.getUserMedia = () =>"
        f" Promise.reject(new DOMException('', '{name}'))"
    )
    page.goto(address)
    page.click("#go")
    wait_for_text(page, CAMERAS[name])
    assert page.get_by_role("alert").first.inner_text().startswith(CAMERAS[name])
    page.get_by_role("button", name="Back").click()
    wait_for_text(page, "Become this portrait")


def test_a_camera_that_the_user_refuses(play: Playwright, performance: Path, address: str) -> None:
    with launch(play, performance, allowed=False) as own_browser:
        page = own_browser.new_page()
        page.goto(address)
        page.click("#go")
        wait_for_text(page, "The camera is not allowed")
        assert page.locator("#result").is_hidden()


def test_the_main_run_is_shown_at_once(tab: Callable[..., Page], tmp_path: Path, face_finder: FaceFinder) -> None:
    options = ["--camera", "performer", "--sink", "webrtc:127.0.0.1:0", "--size", "640x480", "--sessions", "2"]
    with program(tmp_path, *options) as (_, url):
        page = tab(url)
        wait_live(page)
        assert shows_a_face(page, face_finder)
        wait_for_text(page, "Driven by performer")
        page.get_by_role("button", name="Slate").click()
        wait_for_text(page, "slate is on")
        page.get_by_role("button", name="Slate").click()
        page.get_by_role("button", name="Use this browser's camera").click()
        wait_live(page)
        assert page.locator("#preview").is_visible()
        page.get_by_role("button", name="Stop").click()
        assert wait_until(page, "document.body.dataset.mode === 'main'", 10)
        wait_live(page)
        page.goto("about:blank")


def test_by_keyboard_alone_and_to_a_screen_reader(tab: Callable[..., Page], address: str) -> None:
    page = tab(address)
    page.get_by_role("button", name="Go live").first.wait_for()
    page.locator("body").press("Tab")
    seen = []
    for _ in range(12):
        seen.append(page.evaluate("document.activeElement.innerText || document.activeElement.id"))
        if "Go live" in seen[-1]:
            break
        page.keyboard.press("Tab")
    assert "Go live" in seen[-1], seen
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    page.keyboard.press("Enter")
    wait_live(page)
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, video, [role=img]")].filter((each) =>
          !(each.textContent.trim() || each.getAttribute("aria-label") || each.title || each.labels?.length))
          .map((each) => each.outerHTML)"""
    )
    assert unnamed == []
    assert page.locator("h1").count() == 1
    assert page.locator("[aria-live=polite]").count() >= 1
    wait_for_text(page, "Track")
    assert re.match(r"Frame age \d+(\.\d)? milliseconds", page.locator("#chart").get_attribute("aria-label") or "")
    moving = "getComputedStyle(document.getElementById('go')).transitionDuration"
    assert page.evaluate(moving) != "0s"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(moving) == "0s"


def test_every_control_fits_a_phone(tab: Callable[..., Page], address: str) -> None:
    page = tab(address, width=360, height=740, is_mobile=True, has_touch=True)
    go_live(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, select, .add, .choice label")]
          .filter((each) => each.offsetParent && (each.offsetHeight < 40 || each.offsetWidth < 40))
          .map((each) => each.outerHTML)"""
    )
    assert small == []


def test_nothing_is_fetched_from_elsewhere(browser: Browser, address: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    broken: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: broken.append(message.text) if "Security Policy" in message.text else None)
    response = page.goto(address)
    wait_for_text(page, "Become this portrait")
    assert response is not None
    policy = response.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "script-src 'self'" in policy
    assert all(url.startswith((address, "blob:", "data:")) for url in asked)
    assert broken == []
    context.close()


def test_screenshots(tab: Callable[..., Page], address: str, shots: Path) -> None:
    page = tab(address)
    wait_for_text(page, "Become this portrait")
    page.screenshot(path=shots / "ready-light.png")
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(300)
    page.screenshot(path=shots / "ready-dark.png")
    go_live(page)
    page.wait_for_timeout(6000)
    page.screenshot(path=shots / "live-dark.png")
    page.emulate_media(color_scheme="light")
    page.wait_for_timeout(300)
    page.screenshot(path=shots / "live-light.png")
    link = _link(page)
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(300)
    page.screenshot(path=shots / "live-phone.png", full_page=True)
    viewer = tab(link, width=390, height=844)
    wait_live(viewer)
    viewer.screenshot(path=shots / "watch-phone.png")
    assert all((shots / name).stat().st_size > 20_000 for name in ("ready-dark.png", "live-light.png"))


def _link(page: Page) -> str:
    page.get_by_role("button", name="Share").click()
    assert wait_until(page, "document.getElementById('share-link').value !== ''", 10)
    link = page.get_by_label("Link for viewers").input_value()
    page.keyboard.press("Escape")
    return link
