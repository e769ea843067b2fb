"""Path patterns: what they match, in which order, and which are refused."""

from __future__ import annotations

import contextlib
from datetime import date
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wireroom.core import ConfigurationError, RemoteProtocolError
from wireroom.core.routing.paths import PathValue, Router


def router(*patterns: str) -> Router[str]:
    """A router that gives the pattern itself."""
    made: Router[str] = Router()
    for pattern in patterns:
        made.add(pattern, pattern)
    return made


@pytest.mark.parametrize(
    ("pattern", "path", "params"),
    [
        ("/", "/", {}),
        ("/chat", "/chat", {}),
        ("/chat/", "/chat/", {}),
        ("/chat/{room}", "/chat/lobby", {"room": "lobby"}),
        ("/chat/{room:str}", "/chat/42", {"room": "42"}),
        ("/chat/{room}", "/chat/caf%C3%A9", {"room": "café"}),
        ("/chat/{room}", "/chat/a%2Fb", {"room": "a/b"}),
        ("/ch%61t", "/ch%61t", None),
        ("/café", "/caf%C3%A9", {}),
        ("/ws/{id:int}", "/ws/7", {"id": 7}),
        ("/ws/{id:int}", "/ws/007", {"id": 7}),
        ("/ws/{id:int}", "/ws/%37", {"id": 7}),
        ("/{a}/{b:int}/c", "/x/5/c", {"a": "x", "b": 5}),
        ("/files/{name:path}", "/files/a/b.txt", {"name": "a/b.txt"}),
        ("/files/{name:path}", "/files/a/", {"name": "a/"}),
        ("/files/{name:path}", "/files//a", {"name": "/a"}),
        ("/files/{name:path}", "/files/a%2Fb/c", {"name": "a/b/c"}),
        ("/static/*", "/static/a/b", {}),
        ("/static/*", "/static/", None),
        ("/static/*", "/static", None),
        ("/files/{name:path}", "/files/", None),
        ("/chat/{room}", "/chat/", None),
        ("/chat/{room}", "/chat", None),
        ("/chat/{room}", "/chat/a/b", None),
        ("/chat", "/chat/", None),
        ("/chat", "/CHAT", None),
        ("/ws/{id:int}", "/ws/-7", None),
        ("/ws/{id:int}", "/ws/7a", None),
        ("/ws/{id:int}", "/ws/٣", None),
        ("/ws/{id:int}", "/ws/" + "9" * 19, None),
        ("/", "", {}),
        ("/on/{day:date}", "/on/2024-02-29", {"day": date(2024, 2, 29)}),
        ("/on/{day:date}", "/on/2023-02-29", None),
        ("/on/{day:date}", "/on/20240229", None),
        ("/on/{day:date}", "/on/2024-02-29T00", None),
        ("/n/{n:decimal}", "/n/12", {"n": Decimal(12)}),
        ("/n/{n:decimal}", "/n/1.50", {"n": Decimal("1.50")}),
        ("/n/{n:decimal}", "/n/1.", None),
        ("/n/{n:decimal}", "/n/.5", None),
        ("/n/{n:decimal}", "/n/1e5", None),
        ("/n/{n:decimal}", "/n/NaN", None),
        ("/n/{n:decimal}", "/n/-1", None),
        ("/n/{n:decimal}", "/n/1." + "9" * 19, None),
        ("/u/{u:uuid}", f"/u/{UUID(int=0xABC)}", {"u": UUID(int=0xABC)}),
        ("/u/{u:uuid}", f"/u/{UUID(int=0xABC)}".upper().replace("U", "u"), {"u": UUID(int=0xABC)}),
        ("/u/{u:uuid}", f"/u/{UUID(int=0xABC).hex}", None),
        ("/u/{u:uuid}", f"/u/{{{UUID(int=0xABC)}}}", None),
        ("/{day:date}/{n:int}", "/2024-02-29/7", {"day": date(2024, 2, 29), "n": 7}),
        ("/any/{rest:any}", "/any/a/b", {"rest": "a/b"}),
        ("/any/{rest:any}", "/any/", {"rest": ""}),
        ("/any/{rest:any}", "/any", None),
        ("/{rest:any}", "/", {"rest": ""}),
    ],
)
def test_what_a_pattern_matches(
    pattern: str, path: str, params: dict[str, PathValue] | None
) -> None:
    found = router(pattern).match(path)
    assert found == (None if params is None else (pattern, params))


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/a/fixed", "/a/fixed"),
        ("/a/12", "/a/{n:int}"),
        ("/a/word", "/a/{s}"),
        ("/a/word/more", "/a/{p:path}"),
        ("/a/fixed/more", "/a/{p:path}"),
        ("/a/12/x", "/a/{s}/x"),
    ],
)
def test_fixed_before_int_before_text_before_the_rest(path: str, pattern: str) -> None:
    made = router("/a/{p:path}", "/a/{s}", "/a/{n:int}", "/a/fixed", "/a/{s}/x")
    found = made.match(path)
    assert found is not None
    assert found[0] == pattern


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/1", "/{i:int}"),
        ("/2024-02-29", "/{d:date}"),
        (f"/{UUID(int=1)}", "/{u:uuid}"),
        ("/1.5", "/{n:decimal}"),
        ("/2023-02-29", "/{s}"),
        ("/a/b", "/{p:path}"),
        ("/", "/{a:any}"),
    ],
)
def test_of_all_kinds_the_narrowest_is_preferred(path: str, pattern: str) -> None:
    kinds = ("{a:any}", "{p:path}", "{s}", "{n:decimal}", "{u:uuid}", "{d:date}", "{i:int}")
    found = router(*(f"/{kind}" for kind in kinds)).match(path)
    assert found is not None
    assert found[0] == pattern


def test_an_int_is_a_decimal_too() -> None:
    found = router("/{n:decimal}").match("/5")
    assert found is not None
    assert (found[1], type(found[1]["n"])) == ({"n": 5}, Decimal)


def test_what_a_wrong_turn_took_is_forgotten() -> None:
    made = router("/{n:int}/a", "/{s}/b")
    assert made.match("/5/b") == ("/{s}/b", {"s": "5"})


@pytest.mark.parametrize("path", ["/chat/%ff", "/files/a/%C3", "/%80"])
def test_a_parameter_that_is_not_utf8_is_the_peers_mistake(path: str) -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        router("/chat/{room}", "/files/{name:path}", "/{any}").match(path)
    assert raised.value.status == 400


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "chat",
        "/{room",
        "/room}",
        "/a{room}",
        "/{room}b",
        "/{1}",
        "/{a:float}",
        "/{a:path}/b",
        "/{a:any}/b",
    ],
)
def test_a_malformed_pattern_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        router(pattern)
    assert repr(pattern) in raised.value.setting


def test_a_name_used_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="two parameters named room"):
        router("/{room}/{room}")


@pytest.mark.parametrize(
    ("one", "two"),
    [("/a", "/a"), ("/{x}", "/{y}"), ("/{x}", "/{y:str}"), ("/a/*", "/a/{rest:path}")]
    + [(f"/{{a:{kind}}}", f"/{{b:{kind}}}") for kind in ("int", "date", "uuid", "decimal", "any")],
)
def test_two_patterns_for_the_same_paths_are_refused_and_both_named(one: str, two: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        router(one, two)
    assert repr(one) in str(raised.value)
    assert repr(two) in str(raised.value)


def test_patterns_are_kept_in_the_order_they_came() -> None:
    assert list(router("/b", "/a", "/{c}")) == [("/b", "/b"), ("/a", "/a"), ("/{c}", "/{c}")]


def test_a_path_of_many_slashes_costs_no_recursion() -> None:
    assert router("/a/{b}").match("/" * 100_000) is None


@given(path=st.text(st.characters(max_codepoint=0x7E, min_codepoint=0x21), max_size=40))
@settings(deadline=None, max_examples=200)
def test_any_path_matches_or_not_but_raises_only_the_peers_mistake(path: str) -> None:
    made = router("/{n:int}", "/{s}", "/{s}/x", "/p/{p:path}", "/static/*", "/a/{a:any}")
    for pattern in ("/{d:date}/y", "/{u:uuid}/y", "/{n:decimal}/y"):
        made.add(pattern, pattern)
    with contextlib.suppress(RemoteProtocolError):
        made.match("/" + path)
