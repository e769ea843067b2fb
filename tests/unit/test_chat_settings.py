"""The chat's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat_settings import ChatSettings
from rates import Rate
from server import main
from wireroom.core import ConfigurationError


def test_they_come_from_the_environment() -> None:
    settings = ChatSettings.from_environment(
        {
            "WS_PORT": "9000",
            "CHAT_OPERATORS": "Ann, Bob,",
            "CHAT_ROOMS": "",
            "CHAT_TRUSTED_PROXIES": "10.0.0.0/8,::1",
            "CHAT_MESSAGES_PER_S": "0.5",
            "CHAT_MESSAGES_BURST": "3",
        }
    )
    assert settings.ws_port == 9000
    assert settings.operators == {"Ann", "Bob"}
    assert settings.rooms == ["lobby"]
    assert settings.trusted_proxies == ["10.0.0.0/8", "::1"]
    assert settings.rate("messages") == Rate(0.5, 3)


def test_without_a_database_there_is_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    settings = ChatSettings(chat_folder=str(folder))
    assert settings.store_url == f"sqlite:///{folder}/chat.sqlite3"
    assert folder.stat().st_mode & 0o777 == 0o700  # it has hashes of passwords
    assert ChatSettings(database_url="postgresql://x").store_url == "postgresql://x"


def test_a_folder_that_cannot_be_made_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="CHAT_FOLDER"):
        _ = ChatSettings(chat_folder=str(tmp_path / "file" / "folder")).store_url


def test_a_rate_that_is_none_names_the_variable() -> None:
    with pytest.raises(ConfigurationError, match="CHAT_REQUESTS_PER_S"):
        ChatSettings(chat_requests_per_s=0).rate("requests")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CHAT_HISTORY_MESSAGES", "0"),
        ("CHAT_HISTORY_S", "0"),
        ("CHAT_HISTORY_S", "nan"),
        ("CHAT_TOKEN_LIFETIME_S", "-1"),
        ("CHAT_TOKEN_LIFETIME_S", "inf"),
    ],
)
def test_a_value_that_is_none_names_the_variable(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        ChatSettings.from_environment({variable: value})


@pytest.mark.parametrize("name", ["a" * 41, "@1.2", "\u3164", "a\0b"])
def test_rooms_that_cannot_be_name_the_variable(name: str) -> None:
    with pytest.raises(ConfigurationError, match="CHAT_ROOMS"):
        _ = ChatSettings(chat_rooms=f"lobby, {name}").rooms


@pytest.mark.parametrize(
    ("variable", "value", "setting"),
    [
        ("JWT_SECRET", "short", "JWT_SECRET"),
        ("CONSOLE_TOKEN", "short", "console_token"),
        ("WS_PORT", "many", "WS_PORT"),
        ("WS_HOST", "no such host", "host"),
        ("DATABASE_URL", "mysql://x", "DATABASE_URL"),
        ("CHAT_ROOMS", "@1.2", "CHAT_ROOMS"),
        ("CHAT_MESSAGES_PER_S", "0", "CHAT_MESSAGES_PER_S"),
        ("CHAT_WRONG_PASSWORDS_BURST", "0", "CHAT_WRONG_PASSWORDS_PER_S, _BURST"),
        ("CHAT_HISTORY_BYTES", "0", "CHAT_HISTORY_BYTES"),
        ("CHAT_HISTORY_BYTES", "1 MiB", "CHAT_HISTORY_BYTES"),
    ],
)
def test_a_program_that_cannot_start_says_what_to_change(
    variable: str,
    value: str,
    setting: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["server.py", "--port=0"])
    monkeypatch.setattr("server.logs.configure", lambda *arguments: None)
    monkeypatch.setenv("CHAT_FOLDER", str(tmp_path))
    monkeypatch.setenv("JWT_SECRET", "a secret of the tests, of more than 32 bytes")
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {setting}")
