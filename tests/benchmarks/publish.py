"""Writes what `run.py --json FILE` has measured into docs/benchmarks.md, and draws it beside that:
`python tests/benchmarks/publish.py FILE...`.

Only what stands between the two marks of the page is replaced.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
PICTURE = PAGE.with_suffix(".svg")
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"

ROW_HEIGHT, LABEL_WIDTH, GOAL_WIDTH, RATIO_MAX = 24, 430, 170, 2.0


def main(paths: Sequence[str]) -> None:
    """Both files."""
    documents = [json.loads(Path(path).read_text()) for path in paths]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    measured = "\n".join(markdown(documents))
    PAGE.write_text(f"{before}{BEGIN}\n{measured}\n\n{END}{after}")
    PICTURE.write_text("\n".join(picture(list(goals(documents)))) + "\n")


def goals(documents: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """The goals that were measured, each with what it is about."""
    for document in documents:
        titles = {table["key"]: table["title"] for table in document["tables"]}
        for goal in document["goals"]:
            if goal["measured"] is not None:
                loop = titles[goal["table"]].rpartition(", ")[2]
                where = f" ({loop})" if loop in ("asyncio", "uvloop") else ""
                yield f"{goal['table']}{where}: {goal['contestant']} / {goal['reference']}", goal


def markdown(documents: Sequence[Any]) -> Iterator[str]:
    """The versions, the goals, and every table."""
    machine = documents[0]["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    loads = [document["machine"]["load_average"] for document in documents]
    yield f"{machine['python']}, `wireroom.core.compiled` {machine['compiled']}; {machine['cpu']},"
    yield f"{machine['cores']} cores. Load average before each part: {min(loads):.1f} to"
    yield f"{max(loads):.1f}. {packages}."
    yield ""
    yield "| goal | at least | median | lowest to highest | by CPU time | |"
    yield "|---|---|---|---|---|---|"
    for name, goal in goals(documents):
        spread, by_cpu = goal["measured"], goal["per_cpu"]
        cpu = "" if by_cpu is None else f"{by_cpu['median']:.2f}"
        reached = "reached" if judged(goal) >= goal["at_least"] else "**missed**"
        yield (
            f"| {name} | {goal['at_least']:.2g} | {spread['median']:.2f} "
            f"| {spread['low']:.2f} to {spread['high']:.2f} | {cpu} | {reached} |"
        )
    for document in documents:
        for table in document["tables"]:
            yield ""
            yield f"**{table['title']}**"
            yield ""
            yield f"| | {table['unit']} | lowest | highest |"
            yield "|---|---|---|---|"
            for entry in table["entries"]:
                if entry["spread"] is None:
                    yield f"| {entry['contestant']} | {entry['missing']} | | |"
                else:
                    cells = (number(entry["spread"][key]) for key in ("median", "low", "high"))
                    yield f"| {entry['contestant']} | {' | '.join(cells)} |"


def judged(goal: Any) -> float:
    """The ratio that counts: by CPU time, where that was measured."""
    return float((goal["per_cpu"] or goal["measured"])["median"])


def number(value: float) -> str:
    """With three digits or more."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def picture(rows: Sequence[tuple[str, Any]]) -> Iterator[str]:
    """A bar a goal: how much of it is reached; the line is the goal."""
    width, height = LABEL_WIDTH + 2 * GOAL_WIDTH + 60, ROW_HEIGHT * (len(rows) + 1)
    goal_x = LABEL_WIDTH + GOAL_WIDTH
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="13">'
    )
    yield f'<rect width="{width}" height="{height}" fill="white"/>'
    yield f'<text x="{goal_x}" y="16" text-anchor="middle">goal</text>'
    for index, (name, goal) in enumerate(rows):
        share = judged(goal) / goal["at_least"]
        y = ROW_HEIGHT * (index + 1)
        length = GOAL_WIDTH * min(share, RATIO_MAX)
        colour = "#2a7f62" if share >= 1 else "#c0562b"
        yield f'<text x="{LABEL_WIDTH - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
        yield (
            f'<rect x="{LABEL_WIDTH}" y="{y + 3}" width="{length:.0f}" height="{ROW_HEIGHT - 8}" '
            f'fill="{colour}"/>'
        )
        yield (f'<text x="{LABEL_WIDTH + length + 6:.0f}" y="{y + 15}">{judged(goal):.2f}</text>')
    yield f'<line x1="{goal_x}" y1="20" x2="{goal_x}" y2="{height}" stroke="black"/>'
    yield "</svg>"


if __name__ == "__main__":
    main(sys.argv[1:])
