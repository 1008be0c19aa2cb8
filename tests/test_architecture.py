"""The architecture page: its picture is current, and every file and function that it names exists."""

from __future__ import annotations

import ast
import re

import pytest

from tests.house_picture import PICTURE, ROOT, drawn, first_sentence

pytestmark = pytest.mark.checks_code

PAGE = ROOT / "docs" / "architecture.md"
PLACE = re.compile(r"`((?:ledger|api|migrations|tests|docs|deploy)/[\w./-]*)(?:::([\w.]+))?`")
"""A file or folder, and after `::` a function, class or name in it."""


def defined(tree: ast.Module, name: str) -> bool:
    """True if a module defines `name`, or `Class.method`, at its top level."""
    body: list[ast.stmt] = tree.body
    *classes, last = name.split(".")
    for class_name in classes:
        (body,) = (node.body for node in body if isinstance(node, ast.ClassDef) and node.name == class_name)
    names = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return last in names


def missing(page: str) -> list[str]:
    """Places that a page names and that do not exist."""
    absent = []
    for path, name in PLACE.findall(page):
        file = ROOT / path
        exists = file.exists()
        if exists and name:
            exists = defined(ast.parse(file.read_text("utf-8")), name)
        if not exists:
            absent.append(f"{path}::{name}" if name else path)
    return absent


def test_the_picture_is_current() -> None:
    assert PICTURE.read_text("utf-8") == drawn(), "run: python -m tests.house_picture"


def test_every_place_on_the_page_exists() -> None:
    page = PAGE.read_text("utf-8")
    assert len(PLACE.findall(page)) > 40
    assert missing(page) == []
    assert missing("`ledger/rules/standing.py::fold` `ledger/no_such_file.py` `ledger/rules/standing.py::no_such`") == [
        "ledger/no_such_file.py",
        "ledger/rules/standing.py::no_such",
    ]


def test_every_place_in_the_table_of_moves_exists() -> None:
    rows = re.findall(r"^\| `[^`]+` \| (.*) \|$", (ROOT / "docs" / "layout.md").read_text("utf-8"), re.MULTILINE)
    assert len(rows) > 400
    assert [place for row in rows for place in re.findall(r"`([^`]+)`", row) if not (ROOT / place).exists()] == []


def test_every_package_says_what_it_holds() -> None:
    for root in ("ledger", "api"):
        for file in (ROOT / root).rglob("__init__.py"):
            assert first_sentence(str(file.parent.relative_to(ROOT)).replace("/", "."))
