"""What the page makes of what a server says: real Chromium and media process, a desk without portraits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import sync_playwright

from engines.errors import UsageError
from realtime.webrtc.callbacks import ApiReply, ApiRequest
from realtime.webrtc.link import MediaLink
from tests.support.browser import go_live, says, wait_live
from tests.support.media import EchoDesk, serve
from tools.latency.chromium import find_chromium, launch, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

QUICK_S = 4.0
"""ICE alone takes longer to notice that the other side has gone."""
STATE = {
    "v": 1,
    "face": "found",
    "portrait": {"index": 0, "name": "one"},
    "portraits": 0,
    "frames": 9,
    "fps": 30.0,
    "gain": 1.0,
    "region": "all",
    "viewers": 1,
}


class PageDesk(EchoDesk):
    """Sends pictures back, and answers what the page asks for. Sessions in ``forgotten`` are no longer known.

    ``main`` is the state of a run of the program's own, if there is to be one. Whoever asks for the slate waits for
    ``patience_s``; ``early`` tells whether a picture came meanwhile. With ``deaf`` commands are refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forgotten: set[str] = set()
        self.main: dict[str, Any] | None = None
        self.patience_s = 0.0
        self.early = False
        self.deaf = False

    @property
    def session(self) -> str:
        """The one that is open."""
        (key,) = self.opened
        return key

    def push(self, **message: Any) -> None:
        assert self.link is not None
        self.link.push(self.session, {"v": 1, **message})

    def control(self, session: str | None, message: bytes) -> bytes:
        reply = super().control(session, message)
        if self.patience_s and json.loads(message)["command"] == "slate":
            self.early |= self.read.wait(self.patience_s)
        if self.deaf:
            error = {"found": "a session that does not listen", "expected": "", "cure": "try again"}
            return json.dumps({"v": 1, "id": json.loads(message)["id"], "ok": False, "error": error}).encode()
        return reply

    def asked(self, session: str) -> list[tuple[str, Any]]:
        """The commands for a session, and their values."""
        messages = [json.loads(message) for key, message in self.messages if key == session]
        return [(message["command"], message.get("value")) for message in messages]

    def close_session(self, link: MediaLink) -> str:
        """End the session there is, to the last of its pictures; its name."""
        session = self.session
        thread = self._threads[session]
        link.end(session)
        thread.join(5)
        assert not thread.is_alive()
        self.read.clear()
        return session

    def request(self, request: ApiRequest) -> ApiReply:
        if request.path == "/api/control":
            return ApiReply(200, "application/json", self.control(request.session, request.body))
        status = 200
        values: dict[str, Any] = {"v": 1, "main": self.main}
        if request.path == "/api/portraits":
            values = {"v": 1, "portraits": [], "index": 0, "name": "mine"}
        elif request.session in self.opened and request.session not in self.forgotten:
            values = STATE
        elif request.session is not None:
            status, values = 404, {"v": 1, "error": {"found": "no session", "expected": "one", "cure": "open it"}}
        return ApiReply(status, "application/json", json.dumps(values).encode())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        find_chromium()
    except UsageError as error:
        pytest.skip(f"{error}: {error.cure}")
    with sync_playwright() as play:
        opened = launch(play)
        yield opened
        opened.close()


@pytest.fixture
def desk() -> PageDesk:
    return PageDesk()


@pytest.fixture
def link(desk: PageDesk) -> Iterator[MediaLink]:
    made = serve(desk)
    yield made
    made.close()


@pytest.fixture
def page(browser: Browser, link: MediaLink) -> Iterator[Page]:
    """Not opened yet; an error on it fails the test."""
    errors: list[str] = []
    context = browser.new_context(base_url=link.address)
    made = context.new_page()
    made.on("pageerror", lambda error: errors.append(str(error)))
    yield made
    context.close()
    assert not errors


def _opens_again(page: Page, desk: PageDesk, before: str, timeout_s: float) -> bool:
    for _ in range(round(10 * timeout_s)):
        if desk.opened and desk.session != before:
            return True
        page.wait_for_timeout(100)
    return False


def test_what_a_session_failed_of_is_said_until_it_goes_on(page: Page, desk: PageDesk) -> None:
    page.goto("/")
    go_live(page)
    before = desk.session
    desk.push(error={"found": "no picture for 15 s", "expected": "", "cure": "see that the camera is on"})
    says(page, "The session has failed", QUICK_S)
    says(page, "No picture for 15 s. See that the camera is on.", QUICK_S)
    says(page, "Trying again in")
    page.get_by_role("button", name="Try now").click()
    wait_live(page)
    assert desk.session != before


def test_notices_and_refusals_are_said(page: Page, desk: PageDesk) -> None:
    page.goto("/")
    go_live(page)
    desk.push(notice="the camera is lost; trying to get it back")
    says(page, "The camera is lost; trying to get it back")
    desk.push(ok=False, error={"found": "too many messages", "expected": "30 a second", "cure": "send fewer"})
    says(page, "Too many messages; expected: 30 a second. Send fewer.")
    assert page.inner_text("#status") == "Live"


def test_the_end_of_a_session_is_noticed_at_once(page: Page, link: MediaLink, desk: PageDesk) -> None:
    page.goto("/")
    go_live(page)
    before = desk.session
    link.end(before)
    assert _opens_again(page, desk, before, QUICK_S)
    wait_live(page)


def test_what_was_chosen_holds_before_a_new_session_gets_a_picture(page: Page, link: MediaLink, desk: PageDesk) -> None:
    page.goto("/")
    go_live(page)
    desk.push(state=STATE | {"slate": False, "frozen": False, "mirror": True, "mouth": "painted"})
    says(page, "30 pictures a second")
    page.get_by_role("button", name="Slate").click()
    desk.patience_s = 0.5
    for _ in range(2):  # the second time before the new session has said anything of itself
        before = desk.close_session(link)
        assert _opens_again(page, desk, before, QUICK_S)
        wait_live(page)
        slate, mouth, *others = desk.asked(desk.session)
        assert (slate, mouth) == (("slate", True), ("mouth", "painted"))
        assert others == [("set_frozen", False), ("set_mirror", True), ("set_gain", 1.0), ("set_region", "all")]
        assert not desk.early


def test_settings_that_cannot_be_brought_back_keep_the_camera_back(page: Page, link: MediaLink, desk: PageDesk) -> None:
    page.goto("/")
    go_live(page)
    desk.push(state=STATE | {"slate": True})
    says(page, "Slate is on")
    desk.deaf = True
    desk.close_session(link)
    says(page, "A session that does not listen. Try again.")
    assert not desk.read.is_set()
    desk.deaf = False
    page.get_by_role("button", name="Try now").click()
    wait_live(page)
    assert ("slate", True) in desk.asked(desk.session)


def test_a_session_that_the_server_does_not_know_is_over(page: Page, desk: PageDesk) -> None:
    page.goto("/")
    go_live(page)
    before = desk.session
    desk.forgotten.add(before)
    assert _opens_again(page, desk, before, 2 * QUICK_S)
    wait_live(page)


def test_a_camera_that_opens_after_the_person_has_left_is_let_go(page: Page) -> None:
    page.add_init_script(
        """
        window.tracks = [];
        window.gate = Promise.resolve();
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => {
          await window.gate;
          const stream = await open(wanted);
          window.tracks.push(...stream.getTracks());
          return stream;
        };
        """
    )
    page.goto("/")
    go_live(page)
    page.evaluate("() => { window.gate = new Promise((resolve) => { window.allow = resolve; }); }")
    page.locator("#camera").dispatch_event("change")
    page.get_by_role("button", name="Stop").click()
    says(page, "Become this portrait")
    page.evaluate("window.allow()")
    assert wait_until(page, "tracks.length === 2 && tracks.every((each) => each.readyState === 'ended')", 5)
    says(page, "Your camera is off")


def _viewer(page: Page, desk: PageDesk) -> Page:
    """Another page, which watches the session that is open."""
    viewer = page.context.new_page()
    viewer.goto(f"/?watch={desk.opened[desk.session]}")
    wait_live(viewer)
    return viewer


def test_a_viewer_notices_the_end_at_once(page: Page, link: MediaLink, desk: PageDesk) -> None:
    page.goto("/")
    go_live(page)
    viewer = _viewer(page, desk)
    assert viewer.locator("#result").is_visible()
    link.end(desk.session)
    says(viewer, "Nothing to see right now", QUICK_S)
    assert viewer.locator("#result").is_hidden()


def test_a_browser_that_keeps_no_data_for_the_site(page: Page) -> None:
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('', 'SecurityError'); }})"
    )
    page.goto("/")
    says(page, "Become this portrait")
    page.get_by_role("button", name="Keys").click()
    page.get_by_label("Single keys work on this page").uncheck()
    assert wait_until(page, "document.getElementById('voice').textContent === 'Keys are off'", 5)


def test_whose_a_picture_is_that_is_added(page: Page, desk: PageDesk) -> None:
    page.goto("/")
    says(page, "It is yours alone, and gone when you leave")
    desk.main = STATE
    says(page, "It is put on for everybody who sees this portrait, and stays until reenact ends")
    mine: Any = {"name": "mine.png", "mimeType": "image/png", "buffer": b"a picture"}
    page.set_input_files("#upload", mine)
    says(page, "Mine is on, for everybody")
    assert "yours alone" not in page.inner_text("body")


def test_credentials_of_ice_servers_are_new_for_every_connection(page: Page, link: MediaLink, desk: PageDesk) -> None:
    asked: list[str] = []

    def answer(route: Route) -> None:
        if route.request.method != "OPTIONS":
            route.continue_()
            return
        asked.append(f"user{len(asked)}")
        turn = f'<turn:127.0.0.1:9>; rel="ice-server"; username="{asked[-1]}"; credential="c"'
        route.fulfill(status=204, headers={"Link": turn})

    page.route("**/whip", answer)
    page.add_init_script(
        """
        const users = window.users = [];
        window.RTCPeerConnection = class extends RTCPeerConnection {
          constructor(settings) {
            super(settings);
            for (const server of settings.iceServers) users.push(server.username);
          }
        };
        """
    )
    page.goto("/")
    go_live(page)
    assert page.evaluate("users") == ["user0"]
    before = desk.session
    link.end(before)
    assert _opens_again(page, desk, before, 15)
    assert page.evaluate("users") == asked
    assert len(asked) > 1


def test_a_proxy_that_does_not_pass_on_options(page: Page) -> None:
    def refuse(route: Route) -> None:
        if route.request.method == "OPTIONS":
            route.fulfill(status=405)
        else:
            route.continue_()

    page.route("**/whip", refuse)
    page.route("**/whep/*", refuse)
    page.goto("/")
    go_live(page)
    assert page.locator("#result").is_visible()


def _bad_gateway(route: Route) -> None:
    route.fulfill(status=502, body="Bad Gateway")


def test_behind_a_proxy_the_page_comes_back_by_itself(page: Page, link: MediaLink, desk: PageDesk) -> None:
    page.goto("/")
    go_live(page)
    viewer = _viewer(page, desk)
    for each in (page, viewer):
        each.route("**/whip", _bad_gateway)
        each.route("**/whep/*", _bad_gateway)
        each.route("**/api/*", _bad_gateway)
    before = desk.session
    link.end(before)
    for each in (page, viewer):
        says(each, "The connection broke", QUICK_S)
        each.unroute_all()
    assert _opens_again(page, desk, before, 30)
    wait_live(page)
    says(viewer, "Nothing to see right now", 30)


def test_a_page_of_a_run_waits_for_it_behind_a_proxy(page: Page, desk: PageDesk) -> None:
    desk.main = STATE
    page.goto("/")
    says(page, "It is put on for everybody who sees this portrait, and stays until reenact ends")
    page.route("**/api/*", _bad_gateway)
    says(page, "reenact is not reached")
    page.unroute_all()
    says(page, "It is put on for everybody who sees this portrait, and stays until reenact ends")
    assert "not reached" not in page.inner_text("body")


def test_a_page_for_watching_remains_one(page: Page) -> None:
    problem = {"found": "an offer in another language", "expected": "SDP", "cure": "update"}
    page.route("**/whep/*", lambda route: route.fulfill(status=400, json={"v": 1, "error": problem}))
    page.goto("/?watch=one")
    says(page, "an offer in another language")
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    says(page, "Nothing to see right now")
    assert "watch=one" in page.url
