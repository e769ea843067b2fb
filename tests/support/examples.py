"""The examples as modules, though they are in no package."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from types import ModuleType

from sources import ROOT


@cache  # types are resolved by the module's name, so there must be one module of it
def load_example(name: str) -> ModuleType:
    """`docs/examples/NAME/server.py`."""
    path = ROOT / "docs" / "examples" / name / "server.py"
    spec = importlib.util.spec_from_file_location(f"{name}_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
