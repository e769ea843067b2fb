"""The core is built in layers: a file imports from its own layer or from a lower one, never up.

Imports under `if TYPE_CHECKING` count too: a type is knowledge of the layer that it comes from.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from sources import CORE, ROOT, Import, imports_of, module_name, package_of, python_files

PACKAGE = "wireroom.core"

# From the top down. A name is a module or a subpackage of wireroom.core; all that a subpackage
# holds, its __init__.py included, stands in its layer. Only wireroom/core/__init__.py itself,
# which hands out the public names, may import anything.
LAYERS = (
    ("hub",),
    ("serving",),
    ("app", "clients"),
    ("dispatch", "routing"),
    ("sessions",),
    ("wire",),
    ("turn",),
    ("backplane", "deadlines", "errors", "events", "limits", "stopwatch"),
)

# Imports under TYPE_CHECKING that must look up: (importing module, imported layer) -> the reason.
UPWARD_TYPES: dict[tuple[str, str], str] = {
    ("wireroom.core.events", "turn"): "Invoke hands the transport an Invocation",
}

RANK = {name: rank for rank, layer in enumerate(reversed(LAYERS)) for name in layer}


def _layer_of(module: str) -> str | None:
    """`wireroom.core.wire.frames` stands in `wire`; None outside the core and for its root."""
    head, _, rest = module.partition(f"{PACKAGE}.")
    return rest.split(".")[0] if not head and rest else None


def _imported_layer(item: Import) -> str | None:
    """The layer that an import reaches; `""` for the public names of wireroom.core itself."""
    for module in item.candidates():
        if layer := _layer_of(module):
            return layer
    return "" if item.module == PACKAGE else None


def _complaint(importer: str, item: Import) -> str | None:
    own, other = _layer_of(importer), _imported_layer(item)
    if own is None or other is None:
        return None
    if own not in RANK:
        return f"{own} stands in no layer: add it to LAYERS"
    if other not in RANK:
        return f"imports from {PACKAGE}{other and '.'}{other}, which is no layer"
    if RANK[other] <= RANK[own]:
        return None
    if item.type_checking and (importer, other) in UPWARD_TYPES:
        return None
    return f"{own} imports from {other}, a higher layer"


def complaints(source: str, importer: str, package: str) -> list[str]:
    """What one file imports against the order of the layers, as `line: what`."""
    found = [
        f"{item.line}: {complaint}"
        for item in imports_of(ast.parse(source), package)
        if (complaint := _complaint(importer, item))
    ]
    return list(dict.fromkeys(found))  # `from a import b, c` is one line and two imports


@pytest.mark.parametrize("path", python_files(CORE), ids=lambda p: str(p.relative_to(CORE)))
def test_file_imports_downwards_only(path: Path) -> None:
    found = complaints(path.read_text("utf-8"), module_name(CORE, path), package_of(CORE, path))
    report = "\n".join(f"{path.relative_to(ROOT)}:{line}" for line in found)
    assert not found, f"against the layers:\n{report}"


def test_every_part_of_the_core_stands_in_a_layer() -> None:
    parts = {layer for path in python_files(CORE) if (layer := _layer_of(module_name(CORE, path)))}
    assert parts <= RANK.keys(), f"in no layer: {sorted(parts - RANK.keys())}"


def test_every_exception_is_used() -> None:
    used = {
        (importer, layer)
        for path in python_files(CORE)
        if (importer := module_name(CORE, path))
        for item in imports_of(ast.parse(path.read_text("utf-8")), package_of(CORE, path))
        if item.type_checking and (layer := _imported_layer(item))
    }
    assert UPWARD_TYPES.keys() <= used


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("wireroom.core.wire.frames", "from wireroom.core.hub import Hub"),
        ("wireroom.core.wire.frames", "from wireroom.core import hub"),
        ("wireroom.core.wire.frames", "from wireroom.core import App"),
        ("wireroom.core.wire.frames", "from ..sessions import registry"),
        ("wireroom.core.limits", "import wireroom.core.wire.frames"),
        ("wireroom.core.sessions.rooms", "def f():\n    from wireroom.core.app import App"),
        (
            "wireroom.core.sessions.rooms",
            "if TYPE_CHECKING:\n    from wireroom.core.hub import Hub",
        ),
    ],
)
def test_the_judge_sees(importer: str, source: str) -> None:
    assert complaints(source, importer, importer.rpartition(".")[0])


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("wireroom.core", "from wireroom.core.hub import Hub"),
        ("wireroom.core.hub", "from wireroom.core.wire.frames import Frame"),
        ("wireroom.core.wire.frames", "from wireroom.core import limits"),
        ("wireroom.core.wire.frames", "from .deflate import Inflater"),
        ("wireroom.core.dispatch.context", "from wireroom.core.routing import Module"),
        ("wireroom.core.events", "import struct"),
    ],
)
def test_the_judge_allows(importer: str, source: str) -> None:
    assert not complaints(source, importer, importer.rpartition(".")[0])
