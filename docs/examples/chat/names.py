"""Names that a reader cannot tell apart, or not see, are not names of two people.

Unicode has far more of such characters (its Technical Standard 39 lists them); here are those that
are at hand on keyboards, and those that show nothing at all.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from records import NAME_CHARACTERS_MAX, InvalidError, checked

# Printable, as Unicode has it, but nothing is seen of them: fillers, and selectors of variants.
_UNSEEN: Final = (
    *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5),
    *range(0x180B, 0x1810),
    *range(0xFE00, 0xFE10),
    *range(0xE0100, 0xE01F0),
)
# Small letters of Cyrillic and Greek that look, small or as capitals, as those of Latin do.
_LOOK_ALIKE: Final = dict(
    zip("авекмнорстухіјѕһԁԛԝёї", "abekmhopctyxijshdqwëï", strict=True)
) | dict(zip("αβεζηικμνορτυχ", "abezhikmnoptyx", strict=True))
_BLANK: Final = 0x2800  # of Braille
_AS_SEEN: Final[dict[int, str]] = {
    **dict.fromkeys(_UNSEEN, ""),
    _BLANK: " ",
    **{ord(one): other for one, other in _LOOK_ALIKE.items()},
}

_SCRIPTS: Final = ("LATIN", "CYRILLIC", "GREEK")


def name_key(name: str) -> str:
    """What two names have in common that a reader would not tell apart; "" if nothing is seen."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(folded.translate(_AS_SEEN).split())


def check_seen(what: str, name: str) -> None:
    """Raises `InvalidError` for a name of which something, or all, cannot be seen."""
    if not (name.isprintable() and name_key(name)):
        raise InvalidError(f"{what}: has characters that cannot be seen")


def room_name(name: str) -> str:
    """The name of a room that is open to all, without the blanks around it. Raises `InvalidError`.

    Those with @ are of the rooms of two (`memberships`).
    """
    name = checked("room", name.strip(), NAME_CHARACTERS_MAX)
    check_seen("room", name)
    if name.startswith("@"):
        raise InvalidError("room: the name must not begin with @")
    return name


def check_scripts(what: str, name: str) -> None:
    """Raises `InvalidError` for a name in letters of several scripts that resemble each other."""
    text = unicodedata.normalize("NFKC", name)
    scripts = {unicodedata.name(each, "").partition(" ")[0] for each in text if each.isalpha()}
    if len(scripts.intersection(_SCRIPTS)) > 1:
        raise InvalidError(f"{what}: has letters of more than one of Latin, Cyrillic and Greek")
