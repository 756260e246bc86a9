"""The page against a server that says what the test wants: real Chromium and media process, no generator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import sync_playwright

from engines.errors import NotFoundError, ReenactError, UsageError
from realtime.core import problem
from realtime.webrtc.callbacks import ApiReply, ApiRequest
from realtime.webrtc.link import MediaLink
from realtime.webrtc.process.guests.local_network import local_addresses
from tests.support.browser import go_live, wait_for_text, wait_live
from tests.support.media import EchoCallbacks, serve
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


class PageServer(EchoCallbacks):
    """Callbacks that send pictures back and answer the page's requests."""

    def __init__(self) -> None:
        super().__init__()
        self.unknown: set[str] = set()
        """Sessions that are answered as if they did not exist."""
        self.main: dict[str, Any] | None = None
        """The state of the main run; None where there is none."""
        self.slate_delay_s = 0.0
        """How long the answer to ``set_slate`` waits for a picture."""
        self.picture_before_slate = False
        """Whether a picture came during that time."""
        self.refuses = False
        """Whether commands are refused."""
        self.uploads: list[str | None] = []
        """The session of each picture that was sent; None is the main run."""
        self.portraits: list[str] = []

    @property
    def session(self) -> str:
        """The secret of the only open session."""
        (key,) = self.opened
        return key

    def push(self, **message: Any) -> None:
        assert self.link is not None
        self.link.push(self.session, {"v": 1, **message})

    def control(self, session: str | None, message: bytes) -> bytes:
        reply = super().control(session, message)
        if self.slate_delay_s and json.loads(message)["command"] == "set_slate":
            self.picture_before_slate |= self.read.wait(self.slate_delay_s)
        if self.refuses:
            error = _error("pipeline-busy", "a session that refuses commands", cure="try again")
            return json.dumps({"v": 1, "id": json.loads(message)["id"], "ok": False, "error": error}).encode()
        return reply

    def commands(self, session: str) -> list[tuple[str, Any]]:
        """Return the commands for a session, and their values."""
        messages = [json.loads(message) for key, message in self.messages if key == session]
        return [(message["command"], message.get("value")) for message in messages]

    def close_session(self, link: MediaLink) -> str:
        """End the open session, wait for the last of its pictures, and return its secret."""
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
        values: dict[str, Any] = {"v": 1, "main": self.main}
        if request.path == "/api/portraits":
            if request.method == "POST":
                self.uploads.append(request.session)
            listed = [{"index": index, "name": name, "picture": "/x.jpg"} for index, name in enumerate(self.portraits)]
            values = {"v": 1, "portraits": listed, "index": 0, "name": "mine"}
        elif request.session in self.opened and request.session not in self.unknown:
            values = STATE
        elif request.session is not None:
            error = NotFoundError("session-not-found", "no such session")
            return ApiReply(error.status, problem.CONTENT_TYPE, problem.body(error), problem.headers(error))
        return ApiReply(200, "application/json", json.dumps(values).encode())


def _error(code: str, found: str, expected: str = "", cure: str = "") -> dict[str, str]:
    return problem.fields(ReenactError(code, found, expected, cure))


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
def server() -> PageServer:
    return PageServer()


@pytest.fixture
def link(server: PageServer) -> Iterator[MediaLink]:
    made = serve(server)
    yield made
    made.close()


@pytest.fixture
def page(browser: Browser, link: MediaLink) -> Iterator[Page]:
    """A page that is not opened yet. An error on it fails the test."""
    errors: list[str] = []
    context = browser.new_context(base_url=link.address)
    made = context.new_page()
    made.on("pageerror", lambda error: errors.append(str(error)))
    yield made
    context.close()
    assert not errors


def _reopens(page: Page, server: PageServer, before: str, timeout_s: float) -> bool:
    """Wait up to ``timeout_s`` for a session other than ``before``. Return True if there is one."""
    for _ in range(round(10 * timeout_s)):
        if server.opened and server.session != before:
            return True
        page.wait_for_timeout(100)
    return False


def test_a_failed_session_is_shown_with_its_reason_and_opened_again(page: Page, server: PageServer) -> None:
    page.goto("/")
    go_live(page)
    before = server.session
    server.push(error=_error("source-lost", "no picture for 15 s", cure="see that the camera is on"))
    wait_for_text(page, "The session has failed", QUICK_S)
    wait_for_text(page, "No picture for 15 s. See that the camera is on.", QUICK_S)
    wait_for_text(page, "Trying again in")
    page.get_by_role("button", name="Try now").click()
    wait_live(page)
    assert server.session != before


def test_notices_and_refusals_are_shown(page: Page, server: PageServer) -> None:
    page.goto("/")
    go_live(page)
    server.push(notice="the camera is lost; trying to get it back")
    wait_for_text(page, "The camera is lost; trying to get it back")
    server.push(ok=False, error=_error("message-rate", "too many messages", "30 a second", "send fewer"))
    wait_for_text(page, "Too many messages, expected 30 a second. Send fewer.")
    assert page.inner_text("#status") == "Live"


def test_portraits_that_are_ready_later_are_shown(page: Page, server: PageServer) -> None:
    page.goto("/")
    wait_for_text(page, "Become this portrait")
    server.portraits = ["Mona", "Lisa"]
    wait_for_text(page, "Lisa")
    page.get_by_role("button", name="Mona").focus()
    with page.expect_response("**/api/portraits"):
        pass
    page.wait_for_timeout(100)
    assert page.evaluate("document.activeElement.innerText") == "Mona"


def test_the_end_of_a_session_is_noticed_at_once(page: Page, link: MediaLink, server: PageServer) -> None:
    page.goto("/")
    go_live(page)
    before = server.session
    link.end(before)
    assert _reopens(page, server, before, QUICK_S)
    wait_live(page)


def test_settings_are_restored_before_a_new_session_gets_a_picture(
    page: Page, link: MediaLink, server: PageServer
) -> None:
    page.goto("/")
    go_live(page)
    server.push(state=STATE | {"slate": False, "frozen": False, "mirror": True, "mouth": "painted"})
    wait_for_text(page, "30 frames/s")
    page.get_by_role("button", name="Slate").click()
    wait_for_text(page, "set_slate")  # the reply: the delay is for the next session only
    server.slate_delay_s = 0.5
    for _ in range(2):  # the second time before the new session has sent a state
        before = server.close_session(link)
        assert _reopens(page, server, before, QUICK_S)
        wait_live(page)
        slate, mouth, *others = server.commands(server.session)
        assert (slate, mouth) == (("set_slate", True), ("set_mouth", "painted"))
        assert others == [("set_frozen", False), ("set_mirror", True), ("set_gain", 1.0), ("set_region", "all")]
        assert not server.picture_before_slate


def test_no_picture_is_sent_where_settings_cannot_be_restored(page: Page, link: MediaLink, server: PageServer) -> None:
    page.goto("/")
    go_live(page)
    server.push(state=STATE | {"slate": True})
    wait_for_text(page, "Slate is on")
    server.refuses = True
    server.close_session(link)
    wait_for_text(page, "A session that refuses commands. Try again.")
    assert not server.read.is_set()
    server.refuses = False
    page.get_by_role("button", name="Try now").click()
    wait_live(page)
    assert ("set_slate", True) in server.commands(server.session)


def test_a_session_that_the_server_does_not_know_is_opened_again(page: Page, server: PageServer) -> None:
    page.goto("/")
    go_live(page)
    before = server.session
    server.unknown.add(before)
    assert _reopens(page, server, before, 2 * QUICK_S)
    wait_live(page)


def test_a_camera_that_opens_after_the_user_has_left_is_closed(page: Page) -> None:
    page.add_init_script(
        """
        window.tracks = [];
        window.gate = Promise.resolve();
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => {
          await window.gate;
          const stream = await open(wanted);
          if (wanted.video) window.tracks.push(...stream.getTracks());
          return stream;
        };
        """
    )
    page.goto("/")
    go_live(page)
    page.evaluate("() => { window.gate = new Promise((resolve) => { window.allow = resolve; }); }")
    page.locator("#camera").dispatch_event("change")
    page.get_by_role("button", name="Stop").click()
    wait_for_text(page, "Become this portrait")
    page.evaluate("window.allow()")
    assert wait_until(page, "tracks.length === 2 && tracks.every((each) => each.readyState === 'ended')", 5)
    wait_for_text(page, "Your camera is off")


def _viewer(page: Page, server: PageServer) -> Page:
    """Return another page, which watches the open session."""
    viewer = page.context.new_page()
    viewer.goto(f"/?watch={server.opened[server.session]}")
    wait_live(viewer)
    return viewer


@pytest.mark.parametrize(
    ("locale", "button", "title", "revoked"),
    [
        ("de-DE", "Live gehen", "Werde dieses Porträt", "Dieser Link ist geschlossen"),
        ("fr-CA", "Passer en direct", "Devenez ce portrait", "Ce lien est fermé"),
        ("es-MX", "Emitir en directo", "Conviértete en este retrato", "Este enlace está cerrado"),
        ("zh-CN", "开始直播", "化身为这幅画像", "此链接已关闭"),
    ],
)
def test_the_page_speaks_the_language_of_the_browser(
    browser: Browser, link: MediaLink, locale: str, button: str, title: str, revoked: str
) -> None:
    with browser.new_context(base_url=link.address, locale=locale) as context:
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto("/")
        wait_for_text(page, title)
        assert page.inner_text("#go") == button
        assert page.evaluate("document.documentElement.lang") == locale[:2]
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        go_live(page)
        page.click("#open-share")
        assert wait_until(page, "document.getElementById('share-link').value !== ''", 10)
        shared = page.input_value("#share-link")
        page.click("#share-links button")
        assert wait_until(page, "document.getElementById('share-link').value === ''", 10)
        page.goto(shared)
        wait_for_text(page, revoked)
        # another language is chosen, and kept
        page.goto("/")
        with page.expect_navigation():
            page.select_option("#language", "en")
        wait_for_text(page, "Become this portrait")
        page.reload()
        wait_for_text(page, "Become this portrait")
        assert errors == []


def _shared(page: Page) -> str:
    """Return the link that the page's dialog offers. The dialog stays open."""
    page.get_by_role("button", name="Share").click()
    assert wait_until(page, "document.getElementById('share-link').value !== ''", 10)
    return page.get_by_label("Link for viewers").input_value()


def test_a_guest_watches_until_the_link_is_revoked(page: Page, browser: Browser) -> None:
    page.goto("/")
    go_live(page)
    link = _shared(page)
    assert page.get_by_role("img", name="QR code").is_visible()
    # a browser of its own, without the owner's cookies
    with browser.new_context() as context:
        guest = context.new_page()
        errors: list[str] = []
        guest.on("pageerror", lambda error: errors.append(str(error)))
        guest.goto(link)
        wait_live(guest)
        assert guest.locator("input, select, #go, #open-share").count() == 0
        wait_for_text(page, "1 viewer")
        page.get_by_role("button", name="Revoke").first.click()
        wait_for_text(guest, "This link is closed")
        assert guest.locator("#result").is_hidden()
        guest.reload()
        wait_for_text(guest, "This link is closed")
        guest.goto(link[:-1])
        wait_for_text(guest, "This link is not complete")
        assert guest.locator("#overlay-actions button").count() == 0
        assert errors == []


def test_a_guest_hears_the_microphone_of_the_page(browser: Browser, link: MediaLink) -> None:
    allowed = browser.new_context(base_url=link.address, permissions=["camera", "microphone"])
    with allowed, browser.new_context() as context:
        page = allowed.new_page()
        page.goto("/")
        go_live(page)
        wait_for_text(page, "Viewers hear you")
        guest = context.new_page()
        guest.goto(_shared(page))
        wait_live(guest)
        assert wait_until(guest, "!document.getElementById('hear').hidden", 20)
        guest.click("#hear")
        wait_for_text(guest, "Sound is on")
        assert guest.evaluate("document.getElementById('result').muted") is False


def test_opening_to_the_local_network_is_asked_for(page: Page) -> None:
    addresses = local_addresses()
    page.goto("/")
    go_live(page)
    link = _shared(page)
    wait_for_text(page, "Only this computer can open these links")
    page.get_by_role("button", name="Open to the local network").click()
    page.get_by_role("button", name="Not now").click()
    assert page.get_by_label("Link for viewers").input_value() == link
    page.get_by_role("button", name="Open to the local network").click()
    page.get_by_role("button", name="Let them watch").click()
    if not addresses:
        wait_for_text(page, "no address in a local network")
        return
    wait_for_text(page, addresses[0])
    outside = page.get_by_label("Link for viewers").input_value()
    assert outside.startswith(f"http://{addresses[0]}:")
    with page.expect_popup() as opened:
        page.evaluate("(address) => { window.open(address, '_blank', 'noopener=no'); }", outside)
    guest = opened.value
    wait_live(guest)
    answer = guest.goto(outside.partition("/guest/")[0])
    assert answer is not None
    assert answer.status == 404
    page.get_by_role("button", name="Close to the local network").click()
    wait_for_text(page, "Only this computer can open these links")


def test_a_viewer_notices_the_end_at_once(page: Page, link: MediaLink, server: PageServer) -> None:
    page.goto("/")
    go_live(page)
    viewer = _viewer(page, server)
    assert viewer.locator("#result").is_visible()
    link.end(server.session)
    wait_for_text(viewer, "Nothing to see right now", QUICK_S)
    assert viewer.locator("#result").is_hidden()


def test_a_browser_that_keeps_no_data_for_the_site(page: Page) -> None:
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('', 'SecurityError'); }})"
    )
    page.goto("/")
    wait_for_text(page, "Become this portrait")
    page.get_by_role("button", name="Keys").click()
    page.get_by_label("Use these keys on this page").uncheck()
    assert wait_until(page, "document.getElementById('announcer').textContent === 'Keys are off'", 5)


MINE: Any = {"name": "mine.png", "mimeType": "image/png", "buffer": b"a picture"}
OWN = "Only your own session uses it, and it is deleted when you leave"
EVERYONE = "It is shown to everyone who watches this portrait, and stays until reenact ends"


def test_the_page_says_who_sees_an_added_picture(page: Page, server: PageServer) -> None:
    page.goto("/")
    wait_for_text(page, OWN)
    server.main = STATE
    wait_for_text(page, EVERYONE)
    page.set_input_files("#upload", MINE)
    page.get_by_role("button", name="Someone who has agreed").click()
    wait_for_text(page, "Mine is shown, to everyone")
    assert OWN not in page.inner_text("body")
    assert server.uploads == [None]
    page.set_input_files("#upload", MINE)
    page.get_by_role("button", name="Do not use it").click()
    wait_for_text(page, "The picture is not used")
    page.set_input_files("#upload", MINE)
    page.keyboard.press("Escape")
    assert page.locator("#consent").is_hidden()
    assert server.uploads == [None]


def test_a_picture_for_a_session_never_goes_to_the_main_run(page: Page, server: PageServer) -> None:
    server.main = STATE
    page.add_init_script(
        """
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => {
          if (!window.allowed) throw new DOMException("", "NotAllowedError");
          return open(wanted);
        };
        """
    )
    page.goto("/")
    page.get_by_role("button", name="Use this browser's camera").click()
    wait_for_text(page, "The camera is not allowed")
    wait_for_text(page, OWN)
    page.set_input_files("#upload", MINE)
    page.get_by_role("button", name="Someone who has agreed").click()
    wait_for_text(page, "mine.png becomes your portrait as soon as you are live")
    assert server.uploads == []
    page.evaluate("window.allowed = true")
    page.get_by_role("button", name="Try again").click()
    wait_live(page)
    server.push(state=STATE)
    wait_for_text(page, "Mine is shown")
    assert server.uploads == [server.session]


def test_the_page_works_below_a_path_of_a_proxy(page: Page, server: PageServer, link: MediaLink) -> None:
    requested: list[str] = []

    def forward(route: Route) -> None:
        requested.append(route.request.url)
        route.continue_(url=route.request.url.replace("/below/this/", "/"))

    page.route("**/below/this/**", forward)
    outside: list[str] = []
    page.on("request", lambda request: None if "/below/this/" in request.url else outside.append(request.url))
    page.goto("/below/this/")
    go_live(page)
    server.push(state=STATE)
    wait_for_text(page, "30 frames/s")
    shared = _shared(page)
    assert shared.startswith(f"{link.address}below/this/guest/")
    page.keyboard.press("Escape")
    before = server.session
    page.get_by_role("button", name="Stop").click()
    wait_for_text(page, "Become this portrait")
    assert any(url.endswith(f"/whip/{before}") for url in requested)
    assert [url for url in outside if not url.startswith(("blob:", "data:"))] == []


def test_credentials_of_ice_servers_are_new_for_every_connection(
    page: Page, link: MediaLink, server: PageServer
) -> None:
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
    before = server.session
    link.end(before)
    assert _reopens(page, server, before, 15)
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


def test_the_page_reconnects_behind_a_proxy(page: Page, link: MediaLink, server: PageServer) -> None:
    page.goto("/")
    go_live(page)
    viewer = _viewer(page, server)
    for each in (page, viewer):
        each.route("**/whip", _bad_gateway)
        each.route("**/whep/*", _bad_gateway)
        each.route("**/api/*", _bad_gateway)
    before = server.session
    link.end(before)
    for each in (page, viewer):
        wait_for_text(each, "The connection was lost", QUICK_S)
        each.unroute_all()
    assert _reopens(page, server, before, 30)
    wait_live(page)
    wait_for_text(viewer, "Nothing to see right now", 30)


def test_the_page_of_a_main_run_waits_for_it_behind_a_proxy(page: Page, server: PageServer) -> None:
    server.main = STATE
    page.goto("/")
    wait_for_text(page, EVERYONE)
    page.route("**/api/*", _bad_gateway)
    wait_for_text(page, "reenact is not reachable")
    page.unroute_all()
    wait_for_text(page, EVERYONE)
    assert "not reachable" not in page.inner_text("body")


def test_the_page_of_a_viewer_stays_one(page: Page) -> None:
    error = _error("offer-not-sdp", "an offer in another language", "SDP", "update")
    page.route("**/whep/*", lambda route: route.fulfill(status=400, json=error, content_type=problem.CONTENT_TYPE))
    page.goto("/?watch=one")
    wait_for_text(page, "an offer in another language")
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    wait_for_text(page, "Nothing to see right now")
    assert "watch=one" in page.url
