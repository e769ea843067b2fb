"""What every test folder shares: Wireroom built once a run, and skips that CI does not accept."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from installs import (
    Distributions,
    Environment,
    build,
    make_environment,
    pip_install,
    runtime_dependencies,
)

# On a busy machine an example takes any time; bounds that tests have, they have themselves.
settings.register_profile(
    "busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy machine")


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Wireroom's sdist, and the wheel made from it."""
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def wheel_environment(
    distributions: Distributions, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """A fresh virtual environment that holds the wheel, what it declares, and nothing else."""
    path = tmp_path_factory.mktemp("wheel")
    environment = make_environment(path / "venv", *runtime_dependencies())
    pip_install(environment, str(distributions.wheel), cwd=path)
    return environment


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where a program is required, as in CI, a test that was skipped for want of it has failed."""
    report = yield
    for marker, what in (
        ("chromium", "Chromium is"),
        ("node", "Node is"),
        ("servers", "server programs are"),
    ):
        if (
            report.skipped
            and not hasattr(report, "wasxfail")
            and os.environ.get(f"WIREROOM_REQUIRE_{marker.upper()}") == "1"
            and item.get_closest_marker(marker)
        ):
            report.outcome = "failed"
            report.longrepr = f"skipped, but {what} required here: {report.longrepr}"
    return report
