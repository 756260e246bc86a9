"""Lists, shows and revokes what the user has answered about the right to portraits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from engines.errors import ConsentError
from realtime.portraits.consent import RIGHTS, Entry, Ledger, fingerprint
from tools.support.command import new_app, run_app

_Which = Annotated[str, typer.Argument(help="A picture, or the first digits of its SHA-256.")]


def list_command() -> None:
    """List the portraits that there is an answer for."""
    ledger = Ledger()
    rights = ledger.rights()
    for picture, entry in rights.items():
        print(f"{picture[:12]}  {entry.time[:10]}  {entry.right:<9}  {entry.name}")
    print(f"{len(rights)} in {ledger.path}")


def show_command(which: _Which) -> None:
    """Show every answer for a portrait, also those that were revoked."""
    for entry in _entries(which):
        meaning = next((f"{right}: {text}" for right, text in RIGHTS.items() if right == entry.right), "revoked")
        print(f"{entry.time}  {entry.name}  {entry.picture}\n  {meaning}")


def revoke_command(which: _Which) -> None:
    """Revoke the answer for a portrait: it is asked for again before the next use."""
    entry = _entries(which)[-1]
    Ledger().add(entry.picture, entry.name, None)
    print(f"revoked: {entry.name}")


def _entries(which: str) -> list[Entry]:
    """Return the lines of the ledger about one picture. Raises ConsentError."""
    path = Path(which)
    digits = fingerprint(path) if path.is_file() else which.lower()
    entries = [entry for entry in Ledger().entries() if entry.picture.startswith(digits)]
    if len({entry.picture for entry in entries}) != 1:
        found = f"{'several pictures begin' if entries else 'no picture begins'} with {which}"
        cure = "name the picture's file, or more digits of those that the list shows"
        raise ConsentError("consent-not-found", found, "one picture of the ledger", cure)
    return entries


def main(arguments: list[str] | None = None, prog: str = "python -m tools.consent") -> int:
    """Run the command line and return its exit code."""
    app = new_app()
    app.command("list")(list_command)
    app.command("show")(show_command)
    app.command("revoke")(revoke_command)
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
