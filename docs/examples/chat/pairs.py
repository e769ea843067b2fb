"""Many pairs at a time, each looked for by an index.

For `(a, b) IN ((1, 2), …)` SQLite reads the whole table, and what has a parameter for each pair is
another statement each time; so they go as one parameter, of JSON, into a table to join with.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from sqlalchemy import CTE, BigInteger, Connection, Text, column, text

_STATEMENTS: Final = {
    "sqlite": (
        "SELECT json_extract(value, '$[0]') AS a, json_extract(value, '$[1]') AS b"
        " FROM json_each(:pairs)"
    ),
    "postgresql": (
        "SELECT CAST(value ->> 0 AS bigint) AS a, CAST(value ->> 1 AS {type}) AS b"
        " FROM json_array_elements(CAST(:pairs AS json))"
    ),
}


def _table(dialect: str, kind: str, type_: Any) -> CTE:
    statement = text(_STATEMENTS[dialect].format(type=kind))
    return statement.columns(column("a", BigInteger), column("b", type_)).cte("pairs")


_NUMBERS: Final = {name: _table(name, "bigint", BigInteger) for name in _STATEMENTS}
_TEXTS: Final = {name: _table(name, "text", Text) for name in _STATEMENTS}


def numbers(connection: Connection) -> CTE:
    """A table of pairs of integers, `a` and `b`; see `parameters`."""
    return _NUMBERS[connection.dialect.name]


def numbers_and_texts(connection: Connection) -> CTE:
    """A table of pairs of an integer, `a`, and a text, `b`; see `parameters`."""
    return _TEXTS[connection.dialect.name]


def parameters(pairs: Iterable[tuple[int, int | str]]) -> dict[str, str]:
    """What a statement with one of these tables is executed with."""
    return {"pairs": msgspec.json.encode(list(pairs)).decode()}
