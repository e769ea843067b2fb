"""The grammars of the handshake's headers, websockets' parser being the second opinion."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidHeaderFormat
from websockets.headers import parse_extension

from wireroom.core.errors import RemoteProtocolError
from wireroom.core.wire.header_grammar import (
    is_field_value,
    is_host,
    is_token,
    parse_extensions,
    parse_tokens,
    parse_upgrade,
)

TCHAR = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters

tokens = st.text(TCHAR, min_size=1, max_size=8)
spaces = st.text(" \t", max_size=2)
nearly = st.text(TCHAR[:20] + 'ab ,;="\\\t\x00ü', max_size=20)


def extensions(*values: str) -> list[tuple[str, tuple[tuple[str, str | None], ...]]]:
    return [(each.name, each.parameters) for each in parse_extensions(list(values), "X")]


def test_a_token_has_the_characters_of_rfc_9110() -> None:
    assert {chr(code) for code in range(0x250) if is_token(chr(code))} == set(TCHAR)
    assert is_token(TCHAR)
    assert not is_token("")
    assert not is_token("a b")
    assert not is_token("token\n")


# -- lists ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([""], []),
        (["upgrade"], ["upgrade"]),
        (["keep-alive, Upgrade"], ["keep-alive", "Upgrade"]),
        (["a ,\tb", "c"], ["a", "b", "c"]),
        ([",, a,,b ,"], ["a", "b"]),
    ],
)
def test_tokens_are_listed_in_order(values: list[str], expected: list[str]) -> None:
    assert parse_tokens(values, "X") == expected


@pytest.mark.parametrize("value", ["a b", "a;b", '"a"', "a, b c", "ü", "a\x0b", "a=b", "a/b"])
def test_what_is_no_list_of_tokens_is_refused(value: str) -> None:
    with pytest.raises(RemoteProtocolError, match="the X header is malformed") as caught:
        parse_tokens([value], "X")
    assert caught.value.status == 400


def test_upgrade_keeps_versions_and_ignores_case() -> None:
    assert parse_upgrade(["h2c, WebSocket", "TLS/1.3"]) == ["h2c", "websocket", "tls/1.3"]
    assert parse_upgrade(["websocket/13"]) != ["websocket"]


# -- extensions (RFC 6455 section 9.1) -----------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        (" , ,", []),
        ("foo", [("foo", ())]),
        ("foo, bar; baz=2", [("foo", ()), ("bar", (("baz", "2"),))]),
        ("a; b; b=1;\tc = d", [("a", (("b", None), ("b", "1"), ("c", "d")))]),
        ('a; b="1"', [("a", (("b", "1"),))]),
        (r'a; b="\1\5", c', [("a", (("b", "15"),)), ("c", ())]),
        ("a ;b=c ;d", [("a", (("b", "c"), ("d", None)))]),
        ("a,a;x", [("a", ()), ("a", (("x", None),))]),
    ],
)
def test_extensions_are_read(value: str, expected: list[object]) -> None:
    assert extensions(value) == expected


def test_extensions_of_several_lines_are_one_list() -> None:
    assert extensions("a; b", "", "c") == [("a", (("b", None),)), ("c", ())]


@pytest.mark.parametrize(
    "value",
    [
        ";",
        "a;",
        "a; ;b",
        "a b",
        "a; b c",
        "a; b=",
        "a; =b",
        "a=b",
        'a; b="',
        'a; b="1',
        'a; b=""',
        'a; b="1 2"',
        'a; b="1,2"',
        r'a; b="\"',
        r'a; b="1\"2"',
        'a; b="1"2',
        'a; "b"=1',
        "a; b=ü",
        "ü",
        "a/b",
        "a; b=1=2",
        "a\x00",
        'a; b="\x01"',
    ],
)
def test_malformed_extensions_are_refused(value: str) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed") as caught:
        extensions(value)
    assert caught.value.status == 400


@given(
    st.lists(
        st.tuples(tokens, st.lists(st.tuples(tokens, tokens | st.none(), st.booleans()))),
        min_size=1,
        max_size=4,
    ),
    spaces,
)
def test_what_is_written_by_the_grammar_is_read(
    offers: list[tuple[str, list[tuple[str, str | None, bool]]]], space: str
) -> None:
    written = []
    for name, parameters in offers:
        element = name
        for key, value, quoted in parameters:
            element += f"{space};{space}{key}"
            if value is not None:
                escaped = "".join(f"\\{character}" for character in value)
                element += f'{space}={space}"{escaped}"' if quoted else f"{space}={space}{value}"
        written.append(element)
    expected = [(name, tuple((k, v) for k, v, _ in parameters)) for name, parameters in offers]
    assert extensions(f"{space},{space}".join(written)) == expected


@given(nearly)
def test_nearly_right_extensions_raise_nothing_else(value: str) -> None:
    """And what websockets reads too, it reads the same."""
    try:
        ours = extensions(value)
    except RemoteProtocolError:
        return
    try:
        theirs = parse_extension(value)
    except InvalidHeaderFormat:
        return  # it knows no escapes of characters that need none, and needs an element
    assert ours == [(name, tuple(parameters)) for name, parameters in theirs]


# -- Host and values -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "a",
        "a.example",
        "a:1",
        "a:",
        "127.0.0.1:8301",
        "[::1]",
        "[::1]:80",
        "a_b",
        "%41",
        "x~!$&'()",
    ],
)
def test_hosts(host: str) -> None:
    assert is_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":80",
        "a b",
        "a/b",
        "u@a",
        "a:b",
        "a:1:2",
        "::1",
        "[::1",
        "[]",
        "a?",
        "a#",
        "ü",
        "%4",
        "a,b c",
        "a\n",
    ],
)
def test_what_is_no_host(host: str) -> None:
    assert not is_host(host)


@pytest.mark.parametrize("value", ["", "a", "a b\tc", "\xff", "ü", "a  b", '"'])
def test_field_values(value: str) -> None:
    assert is_field_value(value)


@pytest.mark.parametrize(
    "value", [" ", " a", "a ", "\t", "a\r\nb", "a\n", "\0", "\x0b", "\x7f", "€"]
)
def test_what_is_no_field_value(value: str) -> None:
    assert not is_field_value(value)
