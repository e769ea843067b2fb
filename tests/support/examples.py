"""The examples as modules, though they are in no package."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from types import ModuleType

from sources import ROOT


@cache  # types are resolved by the module's name, so there must be one module of it
def load_example(name: str, file: str = "server") -> ModuleType:
    """`docs/examples/NAME/FILE.py`."""
    path = ROOT / "docs" / "examples" / name / f"{file}.py"
    suffix = "" if file == "server" else f"_{file}"
    spec = importlib.util.spec_from_file_location(f"{name}{suffix}_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
