"""Settings from the environment."""

from __future__ import annotations

import pytest

from wireroom.core import ConfigurationError
from wireroom.transports.settings import Settings


def test_what_is_not_set_has_a_default() -> None:
    assert Settings.from_environment({"WS_PORT": "", "HOME": "/"}) == Settings()
    assert Settings().ws_port == 8301


def test_what_is_set_is_converted() -> None:
    settings = Settings.from_environment(
        {"WS_PORT": "9000", "JWT_SECRET": "12345", "DATABASE_URL": "sqlite://", "REDIS_URL": "r"}
    )
    assert settings == Settings(
        ws_port=9000, jwt_secret="12345", database_url="sqlite://", redis_url="r"
    )


@pytest.mark.parametrize("port", ["many", "-1", "65536", "80.5"])
def test_a_wrong_value_names_the_variable(port: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^WS_PORT: .*'{port}'"):
        Settings.from_environment({"WS_PORT": port})


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WS_PORT", "8400")
    assert Settings.from_environment().ws_port == 8400


def test_secrets_are_not_shown() -> None:
    shown = repr(
        Settings(
            jwt_secret="hush", database_url="postgresql://me:hush@host/db", console_token="hush"
        )
    )
    assert "hush" not in shown
    assert "ws_port=8301" in shown


def test_a_log_format_is_one_of_two() -> None:
    assert Settings.from_environment({"LOG_FORMAT": "json"}).log_format == "json"
    with pytest.raises(ConfigurationError, match=r"^LOG_FORMAT: .*'xml'"):
        Settings.from_environment({"LOG_FORMAT": "xml"})
