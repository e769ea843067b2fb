"""Settings from the environment, in one typed object; read once, outside the core.

settings = Settings.from_environment()
run(app, settings.ws_host, settings.ws_port)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Literal, Self

import msgspec

from wireroom.core import ConfigurationError

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a deployment decides. Each field is read from the variable of its name in capitals
    (`ws_port` from `WS_PORT`); one that is not set, or empty, keeps its default."""

    ws_host: str = "127.0.0.1"
    ws_port: Port = 8301
    jwt_secret: str | None = None
    database_url: str | None = None
    redis_url: str | None = None
    console_token: str | None = None
    log_format: Literal["text", "json"] = "text"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Raises `ConfigurationError`, which names the variable, for a value that is none."""
        source = os.environ if environment is None else environment
        given = {
            name: value for name in cls.__struct_fields__ if (value := source.get(name.upper()))
        }
        for name, value in given.items():
            try:
                msgspec.convert({name: value}, cls, strict=False)
            except msgspec.ValidationError as error:
                problem = str(error).partition(" - at ")[0]
                raise ConfigurationError(name.upper(), f"{problem}, not {value!r}") from error
        return msgspec.convert(given, cls, strict=False)

    def __repr__(self) -> str:
        """Without secrets, so that it may be logged."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        for name in ("jwt_secret", "database_url", "redis_url", "console_token"):
            if shown[name] is not None:
                shown[name] = "***"
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"
