"""HTTP bodies and answers common to all routes."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

from engines.errors import NotFoundError, ReenactError, RequestError
from realtime.core import problem

MAX_UPLOAD = 16 << 20
_BODY_TIMEOUT_S = 20.0
logger = logging.getLogger(__name__)


def problem_response(error: ReenactError) -> web.Response:
    """Return the answer for an error: problem+json (RFC 9457) with the error's status."""
    headers = {"Content-Type": problem.CONTENT_TYPE, **problem.headers(error)}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="reenact"'
    return web.Response(status=error.status, body=problem.body(error), headers=headers)


def http_exception_response(error: web.HTTPException) -> web.Response:
    """Return the answer for an exception of aiohttp's own."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        found = f"the method {error.method[:20]}"
        response = problem_response(RequestError("method-not-allowed", found, allowed, "use one of these", status=405))
        response.headers["Allow"] = allowed
        return response
    if isinstance(error, web.HTTPNotFound):
        return problem_response(
            NotFoundError("path-not-found", "no such path", "/, /whip, /whep or /api/...", "see docs/api.md")
        )
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return problem_response(_body_too_large(MAX_UPLOAD))
    return problem_response(RequestError("http-error", error.reason, cure="see docs/api.md", status=error.status))


def path_from(request: web.Request, path: str) -> str:
    """Return a path of the server as a relative reference, to be resolved against the request's URL.

    Absolute paths would be wrong behind a proxy that serves the program under a path of its own.
    """
    depth = request.rel_url.raw_path.count("/") - 1
    return "../" * depth + path


async def read_body(
    request: web.Request, limit: int, timeout_s: float = _BODY_TIMEOUT_S, silence_s: float = _BODY_TIMEOUT_S
) -> bytes:
    """Return a body of at most ``limit`` bytes that arrives within ``timeout_s``, without pauses of ``silence_s``.

    Raises RequestError.
    """
    if (request.content_length or 0) > limit:
        raise _body_too_large(limit)
    body = bytearray()
    now = asyncio.get_running_loop().time
    until = now() + timeout_s
    try:
        async with asyncio.timeout_at(min(until, now() + silence_s)) as patience:
            # in pieces: request.read() would read up to the limit of uploads for every route
            async for piece in request.content.iter_any():
                patience.reschedule(min(until, now() + silence_s))
                body += piece
                if len(body) > limit:
                    raise _body_too_large(limit)
    except TimeoutError:
        expected = f"all of it in {timeout_s:g} s"
        if silence_s < timeout_s:
            expected += f", without pauses of {silence_s:g} s"
        raise RequestError(
            "body-timeout", "a body that is not complete", expected, "send it again", status=408
        ) from None
    except (web.RequestPayloadError, ValueError) as error:
        logger.debug("cannot read a body", exc_info=error)
        raise RequestError(
            "body-unreadable", "a body that cannot be read", "one as its headers say", "send it again"
        ) from None
    return bytes(body)


def _body_too_large(limit: int) -> RequestError:
    return RequestError("body-too-large", "a body that is too large", f"{limit} bytes at most", "send less", status=413)
