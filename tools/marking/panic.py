"""Shows the slate at once: what the key s does in the terminal, from anywhere, such as a hot key of the desktop.

    reenact panic [ADDRESS]

ADDRESS is that of the page. The main run shows the slate until s, the page or the command set_slate removes it.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import Annotated
from urllib.parse import urlencode

import typer

from engines.errors import SourceMissing, UsageError
from realtime.config import DEFAULT_ADDRESS, TOKEN_VARIABLE
from tools.marking.address import page_of, without_token
from tools.support.command import new_app, run_app

TIMEOUT_S = 5.0


def panic_command(
    address: Annotated[str, typer.Argument(help="The page's address.")] = "http://{}:{}".format(*DEFAULT_ADDRESS),
    session: Annotated[str, typer.Option(help="A session, instead of the main run.")] = "",
    token: Annotated[str, typer.Option(envvar=TOKEN_VARIABLE, help="The page's token.")] = "",
) -> None:
    """Show the slate at once."""
    body = json.dumps({"v": 1, "command": "set_slate", "value": True}).encode()
    try:
        page, token_there = page_of(address)
        query = f"?{urlencode({'session': session})}" if session else ""
        request = urllib.request.Request(f"{page}/api/control{query}", body, method="POST")
    except ValueError:
        cure = "give the address that the program printed"
        raise UsageError(
            "panic-bad-address", f"the address {without_token(address)}", "http://HOST:PORT", cure
        ) from None
    token = token_there or token
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            print(json.load(reply).get("said", "slate"))
    except (OSError, ValueError) as error:
        reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else str(error)
        cure = "give the address that the program printed, and its token; s in its terminal does the same"
        raise SourceMissing(
            "panic-not-heard", f"no program at {without_token(address)} took the command: {reason}", cure=cure
        ) from None


def main(arguments: list[str] | None = None, prog: str = "python -m tools.marking.panic") -> int:
    """Run the command line and return its exit code."""
    app = new_app()
    app.command()(panic_command)
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
