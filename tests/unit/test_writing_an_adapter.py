"""docs/writing-an-adapter.md shows the file that is tested, and it is as short as it says."""

from __future__ import annotations

import ast
import io
import re
import tokenize

from sources import ROOT

PAGE = (ROOT / "docs" / "writing-an-adapter.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ADAPTER = (ROOT / "docs" / "examples" / "adapter" / "selectors_adapter.py").read_text("utf-8")

NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def lines_of_code(source: str) -> int:
    """How many lines have code on them: not blank, not comments, not docstrings."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node) is not None:  # type: ignore[arg-type]
            docstring = node.body[0]  # type: ignore[attr-defined]
            lines.difference_update(range(docstring.lineno, docstring.end_lineno + 1))
    return len(lines)


def test_the_page_shows_the_file() -> None:
    assert SNIPPETS[0] == ADAPTER


def test_lines_of_code_are_counted() -> None:
    assert lines_of_code('"""Doc."""\n\nx = (  # why\n    1\n)\n# no\n') == 3
    assert lines_of_code('def f():\n    """Doc\n    string."""\n    return """a\n\nb"""\n') == 4


def test_the_adapter_has_under_a_hundred_lines_of_code() -> None:
    assert lines_of_code(ADAPTER) < 100
