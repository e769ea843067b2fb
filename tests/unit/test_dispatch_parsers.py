"""The JSON parser: commands, typed data, the verdict on what is wrong, and replies."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from wireroom.core import (
    BadMessage,
    CommandDataParser,
    ConfigurationError,
    ErrorReply,
    JsonParser,
    LocalProtocolError,
    MessagePackParser,
    Parsed,
    Parser,
    RawParser,
    Reply,
)

TOO_DEEP = '{"type":"x","data":' + "[" * 100_000


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Line(msgspec.Struct):
    points: list[Point]
    name: str = ""


class Strict(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="strict"):
    x: int


def verdict(parser: Parser, message: str | bytes, data_type: object = None) -> BadMessage:
    verdict: Callable[[str | bytes], object] = parser.parse
    if data_type is not None:
        verdict = parser.decoder(data_type)
    with pytest.raises(BadMessage) as raised:
        verdict(message)
    return raised.value


def test_the_type_names_the_command() -> None:
    assert JsonParser().parse('{"x": [1, {"type": "no"}], "type": "yes"}').command == "yes"


def test_the_key_may_be_another() -> None:
    parser = JsonParser(key="$op-1")
    assert parser.parse('{"type": "no", "$op-1": "yes"}').command == "yes"
    assert verdict(parser, '{"type": "no"}').field == "$op-1"


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        JsonParser(key="")


@pytest.mark.parametrize(
    "message",
    ["", "no json", "{", '{"type": "a"', '{"type":"a"} {}', "\x00", TOO_DEEP],
)
def test_what_is_no_json_is_called_so(message: str) -> None:
    problem = verdict(JsonParser(), message)
    assert problem.code == "invalid_json"
    assert "JSON" in problem.message


@pytest.mark.parametrize("message", ["[]", "7", "null", '"text"', "true"])
def test_json_that_is_no_object_has_no_type(message: str) -> None:
    assert verdict(JsonParser(), message).code == "unknown_type"


@pytest.mark.parametrize("message", ["{}", '{"type": 7}', '{"type": null}', '{"Type": "a"}'])
def test_an_object_without_a_type_names_the_field(message: str) -> None:
    problem = verdict(JsonParser(), message)
    assert (problem.code, problem.field) == ("unknown_type", "type")


def test_data_is_decoded_into_its_type() -> None:
    decode = JsonParser().decoder(Line)
    assert decode('{"type": "line", "points": [{"x": 1}, {"x": 2, "y": 3}]}') == Line(
        [Point(1), Point(2, 3)]
    )


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("{}", "points"),
        ('{"points": 1}', "points"),
        ('{"points": [], "name": 1}', "name"),
        ('{"points": [{"x": 1}, {"x": "1"}]}', "points[1].x"),
        ('{"points": [{"y": 1}]}', "points[0].x"),
        ('{"points": [{"x": 1.5}]}', "points[0].x"),
    ],
)
def test_wrong_data_names_the_field(message: str, field: str) -> None:
    problem = verdict(JsonParser(), message, Line)
    assert (problem.code, problem.field) == ("invalid_data", field)
    assert "$" not in problem.message


def test_an_unknown_field_is_named_where_it_is_forbidden() -> None:
    problem = verdict(JsonParser(), '{"type": "strict", "x": 1, "z": 2}', Strict)
    assert (problem.code, problem.field) == ("invalid_data", "z")


@pytest.mark.parametrize("message", ['{"a":', TOO_DEEP])
def test_data_that_is_no_json_is_called_so(message: str) -> None:
    assert verdict(JsonParser(), message, dict[str, object]).code == "invalid_json"


def test_a_type_that_cannot_be_decoded_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        JsonParser().decoder(dict[str, int] | dict[int, str])


@pytest.mark.parametrize(
    ("data", "packed"),
    [
        ({"a": 1}, '{"a":1}'),
        ([1, "é"], '[1,"é"]'),
        (None, "null"),
        (Point(1), '{"x":1,"y":0}'),
        (ErrorReply("code", "text"), '{"type":"error","code":"code","message":"text"}'),
        (
            ErrorReply("code", "text", "x"),
            '{"type":"error","code":"code","message":"text","field":"x"}',
        ),
    ],
)
def test_replies_are_json(data: object, packed: str) -> None:
    assert JsonParser().pack(data) == packed


def test_a_registered_struct_is_sent_with_its_command() -> None:
    parser = JsonParser()
    parser.register(Point, 'say "it"')
    assert parser.pack(Point(1)) == '{"type":"say \\"it\\"","x":1,"y":0}'
    assert parser.parse(parser.pack(Point(1))).command == 'say "it"'


def test_a_registered_struct_without_fields_is_sent_with_its_command() -> None:
    class Nothing(msgspec.Struct):
        pass

    parser = JsonParser()
    parser.register(Nothing, "nothing")
    assert parser.pack(Nothing()) == '{"type":"nothing"}'


def test_a_struct_with_a_tag_or_a_field_of_that_name_keeps_it() -> None:
    class Own(msgspec.Struct):
        type: str

    parser = JsonParser()
    parser.register(Strict, "other")
    parser.register(Own, "other")
    parser.register(dict, "other")
    assert parser.pack(Strict(1)) == '{"type":"strict","x":1}'
    assert parser.pack(Own("mine")) == '{"type":"mine"}'
    assert parser.pack({}) == "{}"


def test_structs_that_could_not_be_read_back_are_refused() -> None:
    class NoUnknown(msgspec.Struct, forbid_unknown_fields=True):
        x: int

    class Array(msgspec.Struct, array_like=True):
        x: int

    for struct in (NoUnknown, Array):
        with pytest.raises(ConfigurationError, match=struct.__name__):
            JsonParser().register(struct, "command")


# -- requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("request_id", [7, "seven"])
def test_a_request_has_an_id(request_id: int | str) -> None:
    message = msgspec.json.encode({"type": "a", "request_id": request_id}).decode()
    assert JsonParser().parse(message) == Parsed("a", message, request_id)


def test_an_id_that_is_none_is_called_so() -> None:
    problem = verdict(JsonParser(), '{"type": "a", "request_id": []}')
    assert (problem.code, problem.field) == ("invalid_data", "request_id")


def test_replies_and_errors_use_the_parsers_names() -> None:
    parser = JsonParser(key="cmd", data_key="body", request_key="id")
    assert parser.pack(Reply(7, [1])) == '{"cmd":"reply","id":7,"body":[1]}'
    assert parser.pack(ErrorReply("c", "m", None, 7)) == (
        '{"cmd":"error","code":"c","message":"m","id":7}'
    )


@pytest.mark.parametrize("parser", [JsonParser(), MessagePackParser(), JsonParser("c", "d", "r")])
def test_a_request_of_ours_and_its_reply(parser: JsonParser | MessagePackParser) -> None:
    parser.register(Point, "point")
    asked = parser.parse(parser.pack_request(Point(1, 2), "s1"))
    assert (asked.command, asked.request_id) == ("point", "s1")
    assert parser.decoder(Point)(asked.data) == Point(1, 2)
    reply = parser.parse(parser.pack(Reply("s1", Point(3))))
    assert (reply.command, reply.request_id) == ("reply", "s1")
    assert parser.reply_data(reply, Point) == Point(3)


def test_what_has_no_command_can_be_no_request() -> None:
    with pytest.raises(LocalProtocolError, match="has none"):
        JsonParser().pack_request({"x": 1}, "s1")
    with pytest.raises(LocalProtocolError, match="knows no requests"):
        CommandDataParser().pack_request("x", "s1")


# -- other parsers ------------------------------------------------------------------------------


def test_json_with_a_data_key() -> None:
    parser = JsonParser(key="cmd", data_key="data")
    parsed = parser.parse('{"cmd": "move", "data": {"x": 1}}')
    assert parsed.command == "move"
    assert parser.decoder(Point)(parsed.data) == Point(1)
    parser.register(Point, "move")
    assert parser.pack(Point(1)) == '{"cmd":"move","data":{"x":1,"y":0}}'


def test_a_missing_data_key_is_named() -> None:
    parser = JsonParser(key="cmd", data_key="data")
    with pytest.raises(BadMessage) as raised:
        parser.decoder(Point)(parser.parse('{"cmd": "move"}').data)
    assert (raised.value.code, raised.value.field) == ("invalid_data", "data")


@pytest.mark.parametrize("names", [("a", "a", "b"), ("a", None, "a"), ("a", "", "b")])
def test_keys_that_clash_are_refused(names: tuple[str, str | None, str]) -> None:
    with pytest.raises(ConfigurationError, match="different names"):
        JsonParser(*names)


def test_messagepack() -> None:
    parser = MessagePackParser()
    parsed = parser.parse(msgspec.msgpack.encode({"type": "point", "x": 1, "request_id": 5}))
    assert (parsed.command, parsed.request_id) == ("point", 5)
    assert parser.decoder(Point)(parsed.data) == Point(1)
    assert verdict(parser, b"\xc1").code == "invalid_messagepack"
    parser.register(Point, "point")
    for data, packed in (
        (Point(1), {"type": "point", "x": 1, "y": 0}),
        ({"raw": b"bytes"}, {"raw": b"bytes"}),
    ):
        message = parser.pack(data)
        assert isinstance(message, bytes)
        assert msgspec.msgpack.decode(message) == packed


def test_command_and_data() -> None:
    parser = CommandDataParser()
    assert parser.parse("say:a:b") == Parsed("say", "a:b")
    assert parser.parse("ping") == Parsed("ping", "")
    assert parser.decoder(str)("a:b") == "a:b"
    assert parser.decoder(Point)('{"x": 1}') == Point(1)
    assert parser.pack(ErrorReply("code", "text")) == "error:code: text"
    with pytest.raises(ConfigurationError):
        CommandDataParser("")


def test_raw_messages_have_no_command() -> None:
    parser = RawParser()
    assert parser.parse("text") == Parsed("", "text")
    assert parser.decoder(bytes)(b"bytes") == b"bytes"
    with pytest.raises(BadMessage):
        parser.decoder(str)(b"bytes")


def test_a_parser_of_ones_own_in_ten_lines() -> None:
    class FirstWord(Parser):
        def parse(self, message: str) -> Parsed:
            word, _, rest = message.partition(" ")
            if not word.isupper():
                raise BadMessage("bad_word", "commands are in capitals")
            return Parsed(word, {"x": rest})

    parser = FirstWord()
    assert parser.parse("MOVE 1").command == "MOVE"
    assert verdict(parser, "move 1").code == "bad_word"
    assert parser.decoder(dict[str, str])({"x": "1"}) == {"x": "1"}
    with pytest.raises(BadMessage) as raised:
        parser.decoder(Point)({"x": "1"})
    assert (raised.value.code, raised.value.field) == ("invalid_data", "x")
