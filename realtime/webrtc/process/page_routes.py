"""Routes of the page: its files, and signing in with the token."""

from __future__ import annotations

import mimetypes
from collections.abc import Collection
from html import escape
from pathlib import Path
from urllib.parse import parse_qs

from aiohttp import web
from yarl import URL

from engines.errors import AccessDenied, NotFoundError, RequestError
from realtime.core.page_words import accepted_language, table
from realtime.webrtc.process.auth import COOKIE, Authenticator
from realtime.webrtc.process.responses import path_from, problem_response, read_body
from realtime.webrtc.settings import ServerSettings

MAX_FORM = 4096
_COOKIE_AGE_S = 30 * 86400
_MAX_FORM_FIELDS = 10
_SIGN_IN = """<!doctype html><html lang="{language}"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"></head><body><main>
<h1>reenact</h1><form method="post" action="{action}"><p><label for="token">{token}</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus></p>
{alert}<p><button>{button}</button></p></form>
<p>{note}</p></main></body></html>
"""


class PageRoutes:
    """Serves the files in the folder ``page``, and exchanges the token for a cookie."""

    def __init__(self, settings: ServerSettings, authenticator: Authenticator, page: Path) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._page = page

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        for method in ("GET", "HEAD"):
            # aiohttp leaves out the body of an answer to HEAD
            router.add_route(method, "/", self._index)
            router.add_route(method, "/static/{path:.+}", self._static)
        router.add_route("POST", "/sign-in", self._sign_in)

    async def _index(self, request: web.Request) -> web.StreamResponse:
        if "token" in request.query:
            return self._exchange_token(request, request.query["token"])
        return file_response(self._page, "index.html")

    async def _sign_in(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request, MAX_FORM)
        try:
            form = parse_qs(body.decode("utf-8", "replace"), max_num_fields=_MAX_FORM_FIELDS)
        except ValueError:
            raise RequestError(
                "form-too-many-fields", "a form with many fields", "the field token", "send that field only"
            ) from None
        return self._exchange_token(request, form.get("token", [""])[0])

    async def _static(self, request: web.Request) -> web.StreamResponse:
        return file_response(self._page, request.match_info["path"])

    def _exchange_token(self, request: web.Request, token: str) -> web.Response:
        """Set the cookie and redirect to the page. Raises AccessDenied."""
        self._authenticator.sign_in(token, request.remote or "")
        response = web.Response(status=303, headers={"Location": _with_watch("./", request)})
        if self._settings.token is not None:
            secure = request.scheme == "https" or request.headers.get("X-Forwarded-Proto") == "https"
            response.set_cookie(
                COOKIE,
                self._authenticator.new_cookie(),
                httponly=True,
                samesite="Strict",
                secure=secure,
                max_age=_COOKIE_AGE_S,
                path="",  # not sent: the browser takes the page's own path, which a proxy may have changed
            )
        return response


def file_response(folder: Path, name: str, allowed: Collection[str] | None = None) -> web.Response:
    """Return the answer with a file of a folder; of those named in ``allowed``, if given. Raises NotFoundError."""
    # the name is looked up among the folder's files and never joined to a path
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    path = files.get(name)
    if path is None or (allowed is not None and name not in allowed):
        raise NotFoundError("page-file-not-found", f"no file {name[:80]!r}", "a file of the page", "open / instead")
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    text = kind.startswith("text/") or kind in ("application/javascript", "application/json", "image/svg+xml")
    return web.Response(body=path.read_bytes(), content_type=kind, charset="utf-8" if text else None)


def denied_response(request: web.Request, error: AccessDenied) -> web.Response:
    """Return the answer for a denied request: the form to sign in for a browser, problem+json for a program."""
    response = problem_response(error)
    wants_html = request.method in ("GET", "POST") and "text/html" in request.headers.get("Accept", "")
    if not wants_html or error.status not in (401, 429):
        return response
    alert = ""
    language = accepted_language(request.headers.get("Accept-Language", ""))
    words = table(language)
    if error.code == "token-wrong":
        alert = f'<p role="alert">{words["signIn.wrong"]}</p>\n'
    elif error.code != "token-required":
        alert = f'<p role="alert">{words["signIn.tooMany"].format(seconds=error.retry_after_s)}</p>\n'
    action = escape(_with_watch(path_from(request, "sign-in"), request))
    headers = {name: value for name, value in response.headers.items() if name in ("Retry-After", "WWW-Authenticate")}
    said = {name: words[f"signIn.{name}"] for name in ("title", "token", "button", "note")}
    text = _SIGN_IN.format(language=language, action=action, alert=alert, **said)
    return web.Response(status=error.status, text=text, content_type="text/html", headers=headers)


def _with_watch(path: str, request: web.Request) -> str:
    """Return the path with the ``watch`` parameter of the request, if it has one."""
    watch = request.query.get("watch")
    return path if watch is None else f"{path}?{URL.build(query={'watch': watch}).raw_query_string}"
