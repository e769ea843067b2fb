"""The JSON parser: commands, typed data, the verdict on what is wrong, and replies."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from wireroom.core import ConfigurationError, ErrorReply, JsonParser
from wireroom.core.dispatch.parsers import BadMessage

TOO_DEEP = '{"type":"x","data":' + "[" * 100_000


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Line(msgspec.Struct):
    points: list[Point]
    name: str = ""


class Strict(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="strict"):
    x: int


def verdict(parser: JsonParser, message: str, data_type: object = None) -> BadMessage:
    verdict: Callable[[str], object] = parser.command
    if data_type is not None:
        verdict = parser.decoder(data_type)
    with pytest.raises(BadMessage) as raised:
        verdict(message)
    return raised.value


def test_the_type_names_the_command() -> None:
    assert JsonParser().command('{"x": [1, {"type": "no"}], "type": "yes"}') == "yes"


def test_the_key_may_be_another() -> None:
    parser = JsonParser(key="$op-1")
    assert parser.command('{"type": "no", "$op-1": "yes"}') == "yes"
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
    assert parser.command(parser.pack(Point(1))) == 'say "it"'


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
