"""The project's own source files as data: where they are, and what each of them imports.

Used by the tests that judge the source text (tests/purity) and by those that build it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "core"
TRANSPORTS = ROOT / "transports"


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name: `import module`, or `from module import name`, dots resolved."""

    line: int
    module: str
    name: str | None
    type_checking: bool

    def candidates(self) -> tuple[str, ...]:
        """The modules this may load: for `from a import b` both `a` and `a.b`."""
        return (self.module,) if self.name is None else (self.module, f"{self.module}.{self.name}")


def python_files(root: Path) -> list[Path]:
    """Every Python file below a source root, in a fixed order."""
    return sorted(root.rglob("*.py"))


def module_name(root: Path, path: Path) -> str:
    """The dotted name under which `path` is imported, `root` being on the path."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(tree: ast.Module, package: str) -> Iterator[Import]:
    """Every import of a file, those in functions and under TYPE_CHECKING included."""
    guarded = _type_checking_nodes(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, None, node in guarded)
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, package)
            for alias in node.names:
                yield Import(node.lineno, module, alias.name, node in guarded)


def package_of(root: Path, path: Path) -> str:
    """The package that a relative import in `path` starts from."""
    return ".".join(path.relative_to(root).parent.parts)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parents = package.split(".")
    base = parents[: len(parents) - (node.level - 1)]
    return ".".join([*base, node.module] if node.module else base)


def _type_checking_nodes(tree: ast.Module) -> set[ast.AST]:
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and _is_type_checking(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )
