"""Parsers: from a message to its command and data; and back, from what is sent to a message. Pure.

    JsonParser()                             {"type": "say", "text": "hello"}
    JsonParser(key="cmd", data_key="data")   {"cmd": "say", "data": {"text": "hello"}}
    MessagePackParser()                      the same in binary messages
    CommandDataParser()                      say:hello
    RawParser()                              hello, for the default command

A parser of your own is a subclass of `Parser` with a `parse`, and a `pack` if replies are not JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, TypeAlias, final

import msgspec

from ..errors import ConfigurationError, LocalProtocolError, RequestFailedError
from ..wire.framing import Message

Kinds: TypeAlias = Literal["any", "text", "binary"]
RequestId: TypeAlias = int | str

_OWN_TYPES: Final = (bytes, bytearray, memoryview, datetime)  # what MessagePack has itself

REPLY: Final = "reply"  # the command of an answer to a request
ERROR: Final = "error"  # the command of an error reply

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # too deep
_WHERE: Final = re.compile(r" - at `\$\.?(?:\.\.\.)?([^`]*)`$")
_MISSING: Final = re.compile(r"missing required field `([^`]+)`")
_UNKNOWN: Final = re.compile(r"contains unknown field `([^`]+)`")


class BadMessage(Exception):  # noqa: N818 - not a failure of ours, a verdict on the message
    """A message that has no command, or whose data is wrong; answered with an error reply."""

    def __init__(
        self,
        code: str,
        message: str,
        field: str | None = None,
        request_id: RequestId | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.request_id = request_id


class ErrorReply(msgspec.Struct, tag_field="type", tag=ERROR, omit_defaults=True, frozen=True):
    """What a peer gets for a message that could not be handled.

    `code` is one of `invalid_json`, `unknown_type`, `invalid_data`, `handler_failed`, or the
    application's own; `field` names what was wrong in the data. `request_id` is the request's
    that it answers.
    """

    code: str
    message: str
    field: str | None = None
    request_id: RequestId | None = None


class Reply(msgspec.Struct, tag_field="type", tag=REPLY, frozen=True):
    """The answer to a request, either way."""

    request_id: RequestId
    data: Any = None


class _PeerError(msgspec.Struct):
    """What we read of a peer's error reply."""

    code: str = ERROR
    message: str = ""


class Parsed(msgspec.Struct, frozen=True):
    """A message taken apart: its command, its data as the parser's `decoder` wants it, and the
    id under which its sender wants an answer, if any."""

    command: str
    data: Any
    request_id: RequestId | None = None


Decode: TypeAlias = Callable[[Any], Any]
"""Makes typed data of `Parsed.data`. Raises `BadMessage`."""


class Parser:
    """What every parser does. `kinds` says which messages it takes, `key` what an error reply
    calls the place of the command."""

    kinds: ClassVar[Kinds] = "text"
    carries_positions: ClassVar[bool] = False  # whether `pack` gives JSON objects, to be added to
    key: str = "command"

    def parse(self, message: Any) -> Parsed:
        """Take a message apart. Raises `BadMessage`."""
        raise NotImplementedError

    def decoder(self, data_type: Any) -> Decode:
        """What checks, and converts, data for a handler that wants `data_type`."""

        def convert(data: Any) -> Any:
            try:
                return msgspec.convert(data, data_type)
            except msgspec.ValidationError as error:
                raise BadMessage("invalid_data", _problem(error), _field(error)) from error

        return convert

    def register(self, data_type: Any, command: str) -> None:
        """A handler of `command` takes `data_type`. Raises `ConfigurationError` if it cannot."""

    def pack(self, data: Any) -> Message:
        """A message for what is sent and is neither text nor bytes: JSON text, if not overridden.

        `data` may be an `ErrorReply` or a `Reply`.
        """
        return msgspec.json.encode(data).decode()

    def pack_request(self, data: Any, request_id: RequestId) -> Message:
        """A message that asks for an answer. Raises `LocalProtocolError` if there is none."""
        raise LocalProtocolError(f"{type(self).__name__} knows no requests")

    def reply_data(self, reply: Parsed, reply_type: Any) -> Any:
        """What a reply to a request holds. Raises `RequestFailedError`."""
        raise LocalProtocolError(f"{type(self).__name__} knows no requests")


@final
class RawParser(Parser):
    """Every message is data for the default command, as it is: `str` or `bytes`."""

    kinds = "any"

    def parse(self, message: Any) -> Parsed:
        return Parsed("", message)

    def decoder(self, data_type: Any) -> Decode:
        if data_type is str or data_type is bytes:
            return super().decoder(data_type)
        return _unchanged


@final
class CommandDataParser(Parser):
    """`command:data` in text; without a separator all of it is the command.

    Data is text for a handler that wants `str`, and JSON for one that wants anything else.
    """

    def __init__(self, separator: str = ":") -> None:
        if not separator:
            raise ConfigurationError("CommandDataParser.separator", "must not be empty")
        self.separator = separator

    def parse(self, message: Any) -> Parsed:
        command, _, data = message.partition(self.separator)
        return Parsed(command, data)

    def decoder(self, data_type: Any) -> Decode:
        return _unchanged if data_type is str else _decoder(msgspec.json.Decoder, data_type, "JSON")

    def pack(self, data: Any) -> Message:
        if isinstance(data, ErrorReply):
            return f"{ERROR}{self.separator}{data.code}: {data.message}"
        return super().pack(data)


class _ObjectParser(Parser):
    """Objects with a key for the command, and one for a request's id."""

    format: ClassVar[str]

    def __init__(
        self,
        key: str = "type",
        data_key: str | None = None,
        request_key: str = "request_id",
    ) -> None:
        names = [key, request_key] if data_key is None else [key, request_key, data_key]
        if not all(names) or len(set(names)) < len(names):
            raise ConfigurationError(
                f"{type(self).__name__}.key, data_key, request_key",
                f"must be different names, not {names!r}",
            )
        self.key = key
        self.data_key = data_key
        self.request_key = request_key
        self._tags: dict[type, str] = {}
        fields: list[Any] = [("command", str), ("request_id", RequestId | None, None)]
        rename = {"command": key, "request_id": request_key}
        if data_key is not None:
            fields.append(("data", msgspec.Raw, msgspec.Raw(b"")))
            rename["data"] = data_key
        envelope = msgspec.defstruct("Envelope", fields, rename=rename)
        self._decode_envelope: Any = self._codec().Decoder(envelope).decode

    def _codec(self) -> Any:
        """`msgspec.json` or `msgspec.msgpack`."""
        raise NotImplementedError

    def parse(self, message: Any) -> Parsed:
        try:
            envelope = self._decode_envelope(message)
        except msgspec.ValidationError as error:
            field = _field(error)
            code = "invalid_data" if field == self.request_key else "unknown_type"
            raise BadMessage(code, _problem(error), field) from error
        except _UNREADABLE as error:
            raise _unreadable(self.format, error) from error
        whole = self.data_key is None or envelope.command == ERROR
        data = message if whole else envelope.data
        return Parsed(envelope.command, data, envelope.request_id)

    def decoder(self, data_type: Any) -> Decode:
        decode = _decoder(self._codec().Decoder, data_type, self.format)
        if self.data_key is None:
            return decode
        missing = f"Object missing required field `{self.data_key}`"

        def decode_data(data: Any) -> Any:
            if not data:
                raise BadMessage("invalid_data", missing, self.data_key)
            return decode(data)

        return decode_data

    def register(self, data_type: Any, command: str) -> None:
        """Structs of this type are sent with the command that takes them, if they have no tag."""
        if not isinstance(data_type, type) or not issubclass(data_type, msgspec.Struct):
            return
        config = data_type.__struct_config__
        if self.data_key is None:
            if config.tag is not None or self.key in data_type.__struct_encode_fields__:
                return
            if config.forbid_unknown_fields:
                raise ConfigurationError(
                    f"command {command!r}",
                    f"{data_type.__name__} forbids unknown fields and has none named "
                    f"{self.key!r}; give it tag_field={self.key!r}, tag={command!r}",
                )
            if config.array_like:
                raise ConfigurationError(
                    f"command {command!r}",
                    f"{data_type.__name__} is array_like, and so has no key",
                )
        self._tags.setdefault(data_type, command)

    def pack_request(self, data: Any, request_id: RequestId) -> Message:
        fields = msgspec.to_builtins(self._fields(data), builtin_types=_OWN_TYPES)
        if not isinstance(fields, dict) or self.key not in fields:
            raise LocalProtocolError(f"a request has a {self.key!r}: {data!r} has none")
        return self.pack({**fields, self.request_key: request_id})

    def reply_data(self, reply: Parsed, reply_type: Any) -> Any:
        """What is under the data key of a `Reply`, or `data`."""
        try:
            if reply.command == ERROR:
                error = self._decode_error(reply)
                raise RequestFailedError(error.code, error.message)
            if self.data_key is not None:
                return self.decoder(reply_type)(reply.data)
            holder = msgspec.defstruct("Holder", [("data", reply_type)])
            return self.decoder(holder)(reply.data).data
        except BadMessage as error:
            raise RequestFailedError(error.code, error.message) from error

    def _decode_error(self, reply: Parsed) -> Any:
        return _decoder(self._codec().Decoder, _PeerError, self.format)(reply.data)

    def _fields(self, data: Any) -> Any:
        """What is sent for `data`: with its command, where it has one and does not say it."""
        if isinstance(data, ErrorReply):
            fields: dict[str, Any] = {self.key: ERROR, "code": data.code, "message": data.message}
            if data.field is not None:
                fields["field"] = data.field
            if data.request_id is not None:
                fields[self.request_key] = data.request_id
            return fields
        if isinstance(data, Reply):
            return {
                self.key: REPLY,
                self.request_key: data.request_id,
                self.data_key or "data": data.data,
            }
        command = self._tags.get(type(data))
        if command is None:
            return data
        if self.data_key is not None:
            return {self.key: command, self.data_key: data}
        return {self.key: command, **msgspec.to_builtins(data, builtin_types=_OWN_TYPES)}


@final
class JsonParser(_ObjectParser):
    """JSON objects in text. `key` names the command; the data is the whole object, or what is
    under `data_key`; `request_key` has the id of a message that wants an answer."""

    format = "JSON"
    carries_positions = True

    def _codec(self) -> Any:
        return msgspec.json

    def pack(self, data: Any) -> Message:
        kind = type(data)
        if kind not in self._tags and kind is not Reply and kind is not ErrorReply:
            return msgspec.json.encode(data).decode()
        command = None if self.data_key is not None else self._tags.get(kind)
        if command is None:
            return msgspec.json.encode(self._fields(data)).decode()
        tag = msgspec.json.encode({self.key: command})[:-1]
        encoded = msgspec.json.encode(data)
        return (tag + (b"}" if encoded == b"{}" else b"," + encoded[1:])).decode()


@final
class MessagePackParser(_ObjectParser):
    """MessagePack maps in binary messages; for the rest see `JsonParser`."""

    kinds = "binary"
    format = "MessagePack"

    def _codec(self) -> Any:
        return msgspec.msgpack

    def pack(self, data: Any) -> Message:
        return msgspec.msgpack.encode(self._fields(data))


def _unchanged(data: Any) -> Any:
    return data


def _unreadable(format_name: str, error: Exception) -> BadMessage:
    return BadMessage(
        f"invalid_{format_name.lower()}", f"the message is not {format_name}: {error}"
    )


def _decoder(decoder_type: Callable[[Any], Any], data_type: Any, format_name: str) -> Decode:
    """A decoder of bytes or text. Raises `ConfigurationError` for a type that has none."""
    try:
        decode = decoder_type(data_type).decode
    except TypeError as error:
        raise ConfigurationError("data type", str(error)) from error

    def decode_data(data: Any) -> Any:
        try:
            return decode(data)
        except msgspec.ValidationError as error:
            raise BadMessage("invalid_data", _problem(error), _field(error)) from error
        except _UNREADABLE as error:
            raise _unreadable(format_name, error) from error

    return decode_data


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
