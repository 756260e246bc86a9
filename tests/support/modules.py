"""The modules of the project, and what they import."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("engines", "realtime", "tools")


def modules() -> list[Path]:
    """Return the files of every module, tests left out."""
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def dotted(path: Path) -> str:
    """Return the name that a module is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(path.read_text("utf-8"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Return the names of modules in the import statements of a tree, wherever they stand.

    ``from a import b`` gives ``a``, and ``a.b`` too if that is a module of the project.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            for alias in node.names:
                if (ROOT / node.module.replace(".", "/") / f"{alias.name}.py").is_file():
                    yield f"{node.module}.{alias.name}"


def imported_at_once(tree: ast.Module) -> Iterator[str]:
    """Return what importing a module needs: what is outside functions and TYPE_CHECKING, and not optional."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_for_type_checking(node):
            continue
        if isinstance(node, ast.Try) and any("ModuleNotFoundError" in ast.unparse(each) for each in node.handlers):
            continue  # the module can be imported without it
        if isinstance(node, ast.ClassDef):
            yield from imported_at_once(ast.Module(node.body, []))
        else:
            yield from imported(node)


def imported_at_runtime(tree: ast.Module) -> Iterator[str]:
    """Return what running a module may import: everything outside TYPE_CHECKING."""
    for node in tree.body:
        if not _is_for_type_checking(node):
            yield from imported(node)


def reachable(start: Iterable[str], imports: Mapping[str, set[str]]) -> set[str]:
    """Return the modules that ``start`` imports directly or indirectly, ``start`` included."""
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        if name in imports and name not in found:
            found.add(name)
            waiting.extend(imports[name])
    return found


def cycles(imports: Mapping[str, set[str]]) -> list[set[str]]:
    """Return the groups of modules that import one another in a circle."""
    closure = {name: reachable(imports[name], imports) for name in imports}
    groups: list[set[str]] = []
    for name in imports:
        group = {other for other in closure[name] if name in closure[other]}
        if group and group not in groups:
            groups.append(group)
    return groups


def _is_for_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
