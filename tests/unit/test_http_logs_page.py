"""docs/reference/logs.md lists every field that gateway and server write."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from headrace.http.access_log import Fields

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "logs.md").read_text()
METHODS = {"debug", "info", "warning", "error", "exception"}


def fields_of(section: str) -> list[str]:
    """The names in the first column of a section's table."""
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    columns = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return [name for column in columns for name in re.findall(r"`(\w+)`", column)]


def logged_fields() -> Iterator[str]:
    """The keys of dictionaries that are given as ``extra`` to a logger."""
    for path in [*(ROOT / "gateway").rglob("*.py"), *(ROOT / "headrace").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in METHODS:
                for keyword in node.keywords:
                    if keyword.arg == "extra":
                        yield from keys(keyword.value)


def keys(expression: ast.expr) -> Iterator[str]:
    for node in ast.walk(expression):
        if isinstance(node, ast.Dict):
            for key in node.keys:
                if isinstance(key, ast.Constant):
                    yield str(key.value)


def test_the_fields_of_the_access_log_are_listed_in_their_order() -> None:
    assert fields_of("The access log") == ["time", "level", "event", *Fields._fields]


def test_the_fields_of_other_events_are_listed() -> None:
    logged = set(logged_fields())
    assert len(logged) > 15
    assert sorted(logged - set(fields_of("Other events"))) == []
