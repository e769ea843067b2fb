"""The browser client in virtual time, by Node; each file of tests/unit/browser is a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from node import run_tests

FILES = sorted((Path(__file__).parent / "browser").glob("*.test.mjs"))


@pytest.mark.node
@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name.partition(".")[0])
def test_the_client(file: Path) -> None:
    run_tests(file)
