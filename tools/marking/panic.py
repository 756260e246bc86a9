"""Shows the slate at once: what the key s does in the terminal, from anywhere, such as a hot key of the desktop.

    reenact panic [ADDRESS]

ADDRESS is that of the page. The main run shows the slate until s, the page or the command set_slate removes it.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from typing import Annotated

import typer

from engines.errors import SourceMissing
from realtime.config import DEFAULT_ADDRESS, TOKEN_VARIABLE
from tools.support.command import new_app, run_app

TIMEOUT_S = 5.0


def panic_command(
    address: Annotated[str, typer.Argument(help="The page's address.")] = "http://{}:{}".format(*DEFAULT_ADDRESS),
    session: Annotated[str, typer.Option(help="A session, instead of the main run.")] = "",
    token: Annotated[str, typer.Option(envvar=TOKEN_VARIABLE, help="The page's token.")] = "",
) -> None:
    """Show the slate at once."""
    query = f"?session={session}" if session else ""
    body = json.dumps({"v": 1, "command": "set_slate", "value": True}).encode()
    request = urllib.request.Request(f"{address.rstrip('/')}/api/control{query}", body, method="POST")
    request.add_header("Content-Type", "application/json")
    if token or os.environ.get(TOKEN_VARIABLE):
        request.add_header("Authorization", f"Bearer {token or os.environ[TOKEN_VARIABLE]}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            print(json.load(reply).get("said", "slate"))
    except (OSError, ValueError) as error:
        reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else str(error)
        cure = "give the address that the program printed, and its token; s in its terminal does the same"
        raise SourceMissing(
            "panic-not-heard", f"no program at {address} took the command: {reason}", cure=cure
        ) from None


def main(arguments: list[str] | None = None, prog: str = "python -m tools.marking.panic") -> int:
    """Run the command line and return its exit code."""
    app = new_app()
    app.command()(panic_command)
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
