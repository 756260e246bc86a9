"""The modules of the project, and what they import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("engines", "realtime", "tools")


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def imported_at_once(tree: ast.Module) -> Iterator[str]:
    """What importing the file needs: all that is outside functions and TYPE_CHECKING, and that it cannot do without."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Try) and any("ModuleNotFoundError" in ast.unparse(each) for each in node.handlers):
            continue  # the file can be imported without it
        if isinstance(node, ast.ClassDef):
            yield from imported_at_once(ast.Module(node.body, []))
        else:
            yield from imported(node)
