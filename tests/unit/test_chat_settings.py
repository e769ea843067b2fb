"""The chat's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat_settings import ChatSettings
from rates import Rate
from wireroom.core import ConfigurationError


def test_they_come_from_the_environment() -> None:
    settings = ChatSettings.from_environment(
        {
            "WS_PORT": "9000",
            "CHAT_OPERATORS": "Ann, Bob,",
            "CHAT_ROOMS": "",
            "CHAT_MESSAGES_PER_S": "0.5",
            "CHAT_MESSAGES_BURST": "3",
        }
    )
    assert settings.ws_port == 9000
    assert settings.operators == {"Ann", "Bob"}
    assert settings.rooms == ["lobby"]
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
