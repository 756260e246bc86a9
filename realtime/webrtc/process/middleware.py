"""What every request passes: access control before it, and one form for all errors after it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from engines.errors import AccessDenied, ReenactError, RequestError
from realtime.core.problem import internal_error
from realtime.webrtc.process.auth import HEADERS
from realtime.webrtc.process.connection_limit import ConnectionLimit
from realtime.webrtc.process.page_routes import denied_response
from realtime.webrtc.process.responses import http_exception_response, problem_response

MAX_QUERY = 2048
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
logger = logging.getLogger(__name__)


def checking(check: Callable[[web.Request], None], connections: ConnectionLimit) -> Middleware:
    """Return a middleware that calls ``check``, which raises AccessDenied, before a request is handled."""

    @web.middleware
    async def middleware(request: web.Request, handler: _Handler) -> web.StreamResponse:
        connections.request_received(request.transport)
        try:
            check(request)
            return await _answer(request, handler)
        except AccessDenied as error:
            response = denied_response(request, error)
            response.force_close()  # or clients without access could hold connections that others need
            return response

    return middleware


async def _answer(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Return the handler's answer, or that of the error it raises. Raises AccessDenied."""
    try:
        if len(request.query_string) > MAX_QUERY:
            expected = f"{MAX_QUERY} characters at most"
            raise RequestError("query-too-long", "a query that is too long", expected, "shorten it", status=414)
        return await handler(request)
    except AccessDenied:
        raise
    except ReenactError as error:
        return problem_response(error)
    except web.HTTPException as error:
        return http_exception_response(error)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:
        logger.exception("cannot answer %s %s", request.method, request.path)
        return problem_response(internal_error())


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Add the headers that every answer has, as a signal of aiohttp."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.popall("Server", None)
