"""Names of the chat that look alike."""

# ruff: noqa: RUF001 (letters that look like others are what is tested)

from __future__ import annotations

import pytest

from names import check_scripts, check_seen, name_key
from records import InvalidError


@pytest.mark.parametrize(
    "other",
    [
        "PETER COX",
        "  Peter   Cox ",
        "Ｐｅｔｅｒ Cox",
        "Peter\ufe0f Cox",
        "Peter\u3164 Cox",
        "Peter\u034f Cox\u2800",
        "Реtеr Сох",  # in part Cyrillic
        "Ρeter Cοx",  # in part Greek
    ],
)
def test_names_that_are_taken_with_another(other: str) -> None:
    assert name_key(other) == name_key("Peter Cox")


@pytest.mark.parametrize(
    "other", ["Petra Cox", "PeterCox", "Peter-Cox", "Péter Cox", "Peter Cox 2"]
)
def test_names_that_can_be_told_apart(other: str) -> None:
    assert name_key(other) != name_key("Peter Cox")


@pytest.mark.parametrize("name", ["\u3164", "\u2800 \u034f", "Ann\u200b", "\u202eAnn", "A\tB", ""])
def test_names_that_cannot_be_seen(name: str) -> None:
    with pytest.raises(InvalidError, match="cannot be seen"):
        check_seen("name", name)


@pytest.mark.parametrize(
    "name", ["Ann", "Вася", "Ἀλέξανδρος", "שלום", "王小明", "Ann 王", "❤\ufe0f", "ann_2"]
)
def test_names_that_people_have(name: str) -> None:
    check_seen("name", name)
    check_scripts("name", name)


@pytest.mark.parametrize("name", ["Аnn", "Ρeter", "Вαся"])
def test_names_of_several_scripts(name: str) -> None:
    with pytest.raises(InvalidError, match="more than one of"):
        check_scripts("name", name)
