"""Errors on the wire: RFC 9457 problem details over HTTP, and the same fields in control messages."""

from __future__ import annotations

import json
import math
from typing import Any

from engines.errors import ReenactError

CONTENT_TYPE = "application/problem+json"


def internal_error() -> ReenactError:
    """Return the error that clients get in place of a bug of ours, which is logged where it was caught."""
    return ReenactError("internal-error", "a failure of the program", cure="see the log of the program")


def fields(error: ReenactError) -> dict[str, str]:
    """Return ``code``, ``found``, ``expected`` and ``cure``: what every client gets of an error."""
    return {"code": error.code, "found": error.found, "expected": error.expected, "cure": error.cure}


def body(error: ReenactError, **extensions: Any) -> bytes:
    """Return the error as a problem+json document; ``extensions`` are further members, such as a request's id."""
    values = {"title": str(error), "status": error.status, **fields(error), **extensions}
    return json.dumps(values, separators=(",", ":")).encode()


def headers(error: ReenactError) -> dict[str, str]:
    """Return the headers of an HTTP answer that carries the error: ``Retry-After`` where a retry may help."""
    if error.retry_after_s is None:
        return {}
    return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
