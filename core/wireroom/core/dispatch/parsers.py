"""Parsers: from a message to its command and data, and packers: from a reply to a message. Pure.

JSON objects tagged by `type` is the one that there is so far:

    {"type": "chat_message", "text": "hello"}
"""

from __future__ import annotations

import re
from typing import Any, Final, Protocol, final

import msgspec

from ..errors import ConfigurationError
from ..wire.framing import Message

_NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # too deep
_WHERE: Final = re.compile(r" - at `\$\.?(?:\.\.\.)?([^`]*)`$")
_MISSING: Final = re.compile(r"missing required field `([^`]+)`")
_UNKNOWN: Final = re.compile(r"contains unknown field `([^`]+)`")


class BadMessage(Exception):  # noqa: N818 - not a failure of ours, a verdict on the message
    """A message that has no command, or whose data is wrong; answered with an error reply."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


class ErrorReply(msgspec.Struct, tag_field="type", tag="error", omit_defaults=True, frozen=True):
    """What a peer gets for a message that could not be handled.

    `code` is one of `invalid_json`, `unknown_type`, `invalid_data`, `handler_failed`, or the
    application's own; `field` names what was wrong in the data.
    """

    code: str
    message: str
    field: str | None = None


class DataDecoder(Protocol):
    """Decodes the data of one command."""

    def __call__(self, message: Message) -> Any:
        """The typed data. Raises `BadMessage`."""


@final
class JsonParser:
    """JSON objects whose `key` (`type` by default) names the command; the rest is its data."""

    def __init__(self, key: str = "type") -> None:
        if not key:
            raise ConfigurationError("JsonParser.key", "must not be empty")
        self.key = key
        envelope = msgspec.defstruct("Envelope", [("command", str)], rename={"command": key})
        self._decode_envelope: Any = msgspec.json.Decoder(envelope).decode
        self._encode = msgspec.json.Encoder().encode
        self._prefixes: dict[type, bytes] = {}

    def command(self, message: Message) -> str:
        """The command of a message. Raises `BadMessage`."""
        try:
            command: str = self._decode_envelope(message).command
        except msgspec.ValidationError as error:
            raise BadMessage("unknown_type", _problem(error), _field(error)) from error
        except _NOT_JSON as error:
            raise BadMessage("invalid_json", f"the message is not JSON: {error}") from error
        return command

    def decoder(self, data_type: Any) -> DataDecoder:
        """What decodes a message's data into `data_type`. Raises `ConfigurationError`."""
        try:
            decode = msgspec.json.Decoder(data_type).decode
        except TypeError as error:
            raise ConfigurationError("data type", str(error)) from error

        def decode_data(message: Message) -> Any:
            try:
                return decode(message)
            except msgspec.ValidationError as error:
                raise BadMessage("invalid_data", _problem(error), _field(error)) from error
            except _NOT_JSON as error:
                raise BadMessage("invalid_json", f"the message is not JSON: {error}") from error

        return decode_data

    def register(self, data_type: Any, command: str) -> None:
        """Send Structs of this type with the command that takes them, if they have no tag."""
        if not isinstance(data_type, type) or not issubclass(data_type, msgspec.Struct):
            return
        if data_type.__struct_config__.tag is not None:
            return
        if self.key in data_type.__struct_encode_fields__:
            return
        if data_type.__struct_config__.forbid_unknown_fields:
            raise ConfigurationError(
                f"command {command!r}",
                f"{data_type.__name__} forbids unknown fields and has none named {self.key!r}; "
                f"give it tag_field={self.key!r}, tag={command!r}",
            )
        if data_type.__struct_config__.array_like:
            raise ConfigurationError(
                f"command {command!r}", f"{data_type.__name__} is array_like, and so has no key"
            )
        tag = self._encode({self.key: command})
        self._prefixes.setdefault(data_type, tag[:-1])

    def pack(self, data: object) -> str:
        """A text message for any value that msgspec can encode."""
        encoded = self._encode(data)
        prefix = self._prefixes.get(type(data))
        if prefix is not None:
            encoded = prefix + (b"}" if encoded == b"{}" else b"," + encoded[1:])
        return encoded.decode()


def _field(error: msgspec.ValidationError) -> str | None:
    text = str(error)
    where = _WHERE.search(text)
    path = "" if where is None else where[1]
    inner = _MISSING.search(text) or _UNKNOWN.search(text)
    if inner is None:
        return path or None
    return f"{path}.{inner[1]}" if path else inner[1]


def _problem(error: msgspec.ValidationError) -> str:
    return _WHERE.sub("", str(error))
