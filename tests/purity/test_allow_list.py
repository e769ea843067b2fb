"""The core imports only what is pure, and calls no builtin that reaches the world.

An allow-list, because a deny-list misses what nobody thought of (`logging.handlers`, `open`).
What is allowed here computes: it reads no clock, file, socket, environment or random source.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from sources import CORE, ROOT, imports_of, package_of, python_files

# Each module by its full name: `collections` does not allow `collections.abc`, and so on.
PURE_STDLIB = frozenset(
    [
        "__future__",
        "abc",
        "array",
        "base64",
        "binascii",
        "bisect",
        "codecs",
        "collections",
        "collections.abc",
        "contextvars",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "http",
        "http.cookies",
        "inspect",
        "ipaddress",  # parses and compares addresses; resolves none
        "itertools",
        "math",
        "operator",
        "re",
        "string",
        "struct",
        "types",
        "typing",
        "urllib.parse",
        "uuid",
        "weakref",
        "zlib",
    ]
)

# Libraries that do no I/O, with all their modules, and ourselves.
PURE_PACKAGES = ("h11", "wsproto", "msgspec", "librt", "mypy_extensions", "wireroom.core")

# Builtins that reach the world, or hide from this test what does.
FORBIDDEN_NAMES = frozenset(
    [
        "__builtins__",
        "__import__",
        "__loader__",
        "__spec__",
        "breakpoint",
        "compile",
        "eval",
        "exec",
        "exit",
        "globals",
        "help",
        "input",
        "open",
        "print",
        "quit",
    ]
)

# What the allowed modules have that is not pure.
FORBIDDEN_ATTRIBUTES = {
    "base64": {"main", "test"},
    "codecs": {"EncodedFile", "builtins", "open", "sys"},
    "collections": {"_sys"},
    "dataclasses": {"builtins", "sys"},
    "date": {"fromtimestamp", "today"},
    "datetime": {"fromtimestamp", "now", "sys", "today", "utcfromtimestamp", "utcnow"},
    "enum": {"bltns", "sys"},
    "hashlib": {"file_digest"},
    "inspect": {
        "builtins",
        "findsource",
        "getcomments",
        "getmodule",
        "getsource",
        "getsourcefile",
        "getsourcelines",
        "importlib",
        "linecache",
        "os",
        "sys",
    },
    "re": {"_compiler"},
    "types": {"sys"},
    "typing": {"sys"},
    "uuid": {"getnode", "os", "platform", "sys", "uuid1", "uuid4"},
    "weakref": {"sys"},
}


def _is_pure(module: str) -> bool:
    return module in PURE_STDLIB or any(
        module == package or module.startswith(f"{package}.") for package in PURE_PACKAGES
    )


def _impure_imports(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
    for item in imports_of(tree, package):
        if not any(_is_pure(module) for module in item.candidates()):
            yield item.line, f"imports {item.module}"
        elif item.name == "*":
            yield item.line, f"imports * from {item.module}, which hides what is used"
        elif item.name in FORBIDDEN_ATTRIBUTES.get(item.module, ()):
            yield item.line, f"imports {item.module}.{item.name}"


def _impure_uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        # Any mention counts, a call or not: `f = open` is how a call is hidden.
        if isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
            yield node.lineno, f"uses the builtin {node.id}"
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.attr in FORBIDDEN_ATTRIBUTES.get(node.value.id, ())
        ):
            yield node.lineno, f"uses {node.value.id}.{node.attr}"


def impurities(source: str, package: str) -> list[tuple[int, str]]:
    """Line and complaint for all that is not allowed in one file of the core."""
    tree = ast.parse(source)
    return sorted([*_impure_imports(tree, package), *_impure_uses(tree)])


def test_there_is_a_core_to_judge() -> None:
    assert python_files(CORE)


@pytest.mark.parametrize("path", python_files(CORE), ids=lambda p: str(p.relative_to(CORE)))
def test_file_of_the_core_is_pure(path: Path) -> None:
    found = impurities(path.read_text("utf-8"), package_of(CORE, path))
    report = "\n".join(f"{path.relative_to(ROOT)}:{line}: {what}" for line, what in found)
    assert not found, f"not allowed in the core:\n{report}"


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import os",
        "import random",
        "import secrets",
        "import logging",
        "import asyncio",
        "import threading",
        "import urllib",
        "import urllib.request",
        "import traceback",
        "from time import monotonic",
        "from urllib import request",
        "from os import urandom",
        "from codecs import open",
        "from struct import *",
        "from wireroom.transports import asyncio",
        "from wireroom import transports",
        "from ..transports import asyncio",
        "def f():\n    import socket",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import asyncio",
        "open('x')",
        "f = open",
        "eval('1')",
        "__import__('time')",
        "import codecs\ncodecs.open('x')",
        "import inspect\ninspect.getsource(f)",
        "from datetime import date\ndate.today()",
        "from datetime import datetime\ndatetime.now()",
        "from uuid import uuid4",
        "import uuid\nuuid.uuid1()",
        "print('x')",
        "breakpoint()",
    ],
)
def test_the_judge_sees(source: str) -> None:
    assert impurities(source, "wireroom.core")


@pytest.mark.parametrize(
    "source",
    [
        "import struct\nimport zlib",
        "from urllib.parse import urlsplit",
        "from urllib import parse",
        "from collections.abc import Iterator",
        "import h11\nfrom wsproto.frame_protocol import Opcode\nimport msgspec.json",
        "from wireroom.core.limits import Limits",
        "from .limits import Limits",
        "from ..limits import Limits",
        "hub.open(request)",
        "import re\nre.compile('x')",
        "from datetime import date\ndate.fromisoformat('2024-02-29')",
        "from uuid import UUID",
    ],
)
def test_the_judge_allows(source: str) -> None:
    assert not impurities(source, "wireroom.core.wire")
