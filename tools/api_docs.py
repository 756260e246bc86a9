"""Write docs/api.md, docs/errors.md and docs/openapi.json from the source code.

    python -m tools.api_docs [--check]

``--check`` writes nothing and fails if a file is out of date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from engines.errors import ReenactError
from tools.reference import api_page, error_codes, openapi
from tools.support.command import new_app, run_app

DOCS = Path(__file__).parents[1] / "docs"

app = new_app()


def documents() -> dict[str, str]:
    """Return the content of each file by its name."""
    return {
        "api.md": api_page.render(),
        "errors.md": error_codes.render(error_codes.collect()),
        "openapi.json": json.dumps(openapi.document(), indent=2) + "\n",
    }


def outdated(folder: Path = DOCS) -> list[str]:
    """Return the names of the files that differ from what the source code says, or are missing."""
    return [
        name
        for name, content in documents().items()
        if not (folder / name).is_file() or (folder / name).read_text("utf-8") != content
    ]


@app.command()
def write(check: Annotated[bool, typer.Option("--check", help="Fail if a file is out of date.")] = False) -> None:
    """Write the documents of the API."""
    if not check:
        for name, content in documents().items():
            (DOCS / name).write_text(content, "utf-8")
    elif names := outdated():
        raise ReenactError("docs-out-of-date", f"{', '.join(names)} out of date", cure="run: python -m tools.api_docs")


def main(arguments: list[str] | None = None, prog: str = "python -m tools.api_docs") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
