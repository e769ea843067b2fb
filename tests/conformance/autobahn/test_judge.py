"""The judge of the Autobahn runs is strict: each kind of fault is one."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RUNNER = runpy.run_path(str(Path(__file__).with_name("run.py")))
judge: Callable[..., Any] = RUNNER["judge"]


def _result(behavior: str, close: str) -> dict[str, str]:
    return {"behavior": behavior, "behaviorClose": close}


def test_all_ok_is_no_fault() -> None:
    verdict = judge(
        ["1.1.1", "7.1.6"], {"1.1.1": _result("OK", "OK"), "7.1.6": _result("OK", "OK")}
    )
    assert (verdict.passed, verdict.faults) == (2, {})


@pytest.mark.parametrize("case", ["7.1.6", "7.13.1", "7.13.2"])
def test_three_cases_may_be_informational(case: str) -> None:
    verdict = judge([case], {case: _result("INFORMATIONAL", "INFORMATIONAL")})
    assert (verdict.passed, verdict.faults) == (1, {})


@pytest.mark.parametrize(
    ("case", "behavior", "close"),
    [
        ("6.4.1", "NON-STRICT", "OK"),
        ("7.1.6", "NON-STRICT", "OK"),
        ("7.1.6", "FAILED", "INFORMATIONAL"),
        ("1.1.1", "INFORMATIONAL", "OK"),
        ("1.1.1", "FAILED", "OK"),
        ("1.1.1", "UNIMPLEMENTED", "OK"),
        ("1.1.1", "OK", "FAILED"),
        ("1.1.1", "OK", "WRONG CODE"),
        ("1.1.1", "OK", "UNCLEAN"),
        ("1.1.1", "OK", "FAILED BY CLIENT"),
    ],
)
def test_all_else_is_a_fault_that_names_the_case(case: str, behavior: str, close: str) -> None:
    verdict = judge([case], {case: _result(behavior, close)})
    assert (verdict.passed, verdict.faults) == (0, {case: f"behavior {behavior}, close {close}"})


def test_a_case_that_did_not_run_is_a_fault() -> None:
    assert judge(["1.1.1"], {}).faults == {"1.1.1": "did not run"}


def test_what_the_host_decides_is_named_apart_but_has_to_run() -> None:
    results = {"6.4.1": _result("NON-STRICT", "OK"), "6.4.2": _result("OK", "OK")}
    verdict = judge(["6.4.1", "6.4.2", "6.4.3"], results, {"6.4.*": "it reads whole messages"})
    assert verdict.passed == 1
    assert verdict.hosts == {"6.4.1": "behavior NON-STRICT, close OK (it reads whole messages)"}
    assert verdict.faults == {"6.4.3": "did not run"}
