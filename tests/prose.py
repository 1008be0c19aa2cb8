"""Rules of the prose and the names in the code, for tests/test_house.py. `python -m tests.prose PATH...` prints what
breaks them below a path."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from api import errors as api_errors
from ledger import errors

BANNED: dict[str, str] = {
    r"nobody|no one|somebody|someone|anybody|anyone|everybody|everyone|whoever": "name the actor, or use the passive",
    r"(?:its|their) kin": "list them, or 'such as'",
    r"put right": "correct",
    r"no more(?! than)": "not any longer",
    r"so (?:many|much)(?! that| as)": "name the number",
    r"(?:is|are|was|were|be|been) told": "gets, sees, receives",
    r"tells? (?:of|the|a|an|them|it|who|what|how|that|whether)": "shows, returns, reports, sends",
    r"(?:lies|stands) in": "is stored in, is in",
    r"what (?:becomes|became) of": "the result of, the state of",
    r"goes by|knows of": "uses, has",
    r"as (?:it|they) stands?": "unchanged, present",
    r"in (?:\w+ )?hands": "is assigned to, has",
}
"""Patterns that docstrings, comments, texts of errors and help of commands do not use -> what to write instead."""

WHOLE = frozenset({"One of them.", "All of them.", "See the module.", "Do it."})
"""Docstrings that say nothing."""

EXEMPT: dict[tuple[str, str], str] = {
    ("api/console/routes/case_actions.py", "somebody"): "a sentence of the console, which the catalogues translate",
}
"""(path, words) -> the reason why these words may stay, such as those of a statute or of a quoted standard."""

VARIABLES = frozenset({"one", "found", "told", "wanted", "made"})
"""Names of variables and parameters that do not say what they hold."""

_PATTERN = re.compile("|".join(rf"\b(?:{pattern})\b" for pattern in BANNED), re.IGNORECASE)
_ERRORS = {
    name
    for module in (errors, api_errors)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, errors.LedgerError)
}
_COMMANDS = frozenset({"command", "callback"})
_ROUTES = frozenset({"get", "post", "delete", "put"})


class Fault(NamedTuple):
    """One broken rule."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


@lru_cache(maxsize=2000)
def _parsed(source: str) -> ast.Module:
    """Return the syntax tree of a module; each rule asks for it."""
    return ast.parse(source)


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every docstring, also of attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def _texts_of(node: ast.expr) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of the strings in an expression, also the constant parts of f-strings."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.lineno, part.value


def _messages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of the texts of raised errors and of `help=` of commands and options."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            for argument in node.exc.args:
                yield from _texts_of(argument)
        elif isinstance(node, ast.keyword) and node.arg in ("help", "short_help", "epilog"):
            yield from _texts_of(node.value)


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every comment."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def prose_faults(path: str, source: str) -> list[Fault]:
    """Return the banned words in docstrings, comments, texts of errors and help of commands."""
    if not (_PATTERN.search(" ".join(source.split())) or any(whole in source for whole in WHOLE)):
        return []  # reading the words of every file apart takes seconds
    tree = _parsed(source)
    texts = {*_docstrings(tree), *_messages(tree), *_comments(source)}
    faults = []
    for line, text in sorted(texts):
        words = re.sub(r"`[^`]*`", "``", " ".join(text.split()))  # words in backticks are code
        if words in WHOLE:
            faults.append(Fault(path, line, words))
        faults += [
            Fault(path, line, match[0]) for match in _PATTERN.finditer(words) if (path, match[0].lower()) not in EXEMPT
        ]
    return faults


def name_faults(path: str, source: str) -> list[Fault]:
    """Return the variables and parameters that are called as in `VARIABLES`."""
    faults = []
    for node in ast.walk(_parsed(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in VARIABLES:
            faults.append(Fault(path, node.lineno, node.id))
        elif isinstance(node, ast.arg) and node.arg in VARIABLES:
            faults.append(Fault(path, node.lineno, node.arg))
    return faults


def _name_of(expression: ast.expr | None) -> str | None:
    """Return the last name of `X`, `module.X`, `X(...)` and `module.X(...)`, None for other expressions."""
    if isinstance(expression, ast.Call):
        expression = expression.func
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else None


def _caught(handlers: list[ast.ExceptHandler]) -> set[str]:
    """Return the names of the exceptions that the handlers of a `try` catch."""
    names: set[str] = set()
    for handler in handlers:
        types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        names |= {name for name in map(_name_of, types) if name is not None}
    return names


def _raised(nodes: Iterable[ast.AST], caught: frozenset[str] = frozenset()) -> set[str]:
    """Return the project's errors that leave these statements, without those of functions within them."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Raise):
            name = _name_of(node.exc)
            if name in _ERRORS and name not in caught:
                names.add(name)
        if isinstance(node, ast.Try):
            names |= _raised(node.body, caught | _caught(node.handlers))
            names |= _raised((*node.handlers, *node.orelse, *node.finalbody), caught)
        else:
            names |= _raised(ast.iter_child_nodes(node), caught)
    return names


def _is_entry(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """True for a command, whose docstring is its help, and for a route, whose decorator declares its errors."""
    return any(_name_of(decorator) in _COMMANDS | _ROUTES for decorator in function.decorator_list)


_NOUN = re.compile(r"(?:The|A|An|One|Whether|What|How|All|Which)\b")


def action_faults(path: str, source: str) -> list[Fault]:
    """Return the docstrings that begin with the same word twice, and those of functions that return nothing but are
    described by a noun, so that a reader cannot see what they do."""
    faults = []
    for node in ast.walk(_parsed(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node) or ""
        first, _, rest = text.partition(" ")
        if first and rest.startswith(f"{first} "):
            faults.append(Fault(path, node.lineno, f"{first} {first}"))
        returns_nothing = isinstance(node.returns, ast.Constant) and node.returns.value is None
        if returns_nothing and not _is_entry(node) and _NOUN.match(text):
            faults.append(Fault(path, node.lineno, f"{node.name}: {first}"))
    return faults


def error_faults(path: str, source: str) -> list[Fault]:
    """Return the public functions whose docstring does not name an error that they raise themselves. The docstring of
    the class counts for `__init__`, `__post_init__` and properties."""
    faults: list[Fault] = []

    def visit(node: ast.AST, documentation: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
                visit(child, ast.get_docstring(child) or "")
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                is_special = child.name in ("__init__", "__post_init__")
                if (child.name.startswith("_") and not is_special) or _is_entry(child):
                    continue
                text = f"{ast.get_docstring(child) or ''} {documentation if is_special else ''}"
                missing = sorted(name for name in _raised(child.body) if not re.search(rf"\b{name}\b", text))
                if missing:
                    faults.append(Fault(path, child.lineno, f"{child.name} raises {', '.join(missing)}"))

    visit(_parsed(source), "")
    return faults


def classes(path: str, source: str) -> Iterator[tuple[str, str]]:
    """Yield (name, kind) of each public class at the top of a module: `schema` (of the API), `table` (a
    table of the database) or `type`."""
    for node in _parsed(source).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            if path.startswith("api/") and path.endswith("schemas.py"):
                yield node.name, "schema"
            elif path.startswith("ledger/server/db/tables/"):
                yield node.name, "table"
            else:
                yield node.name, "type"


def main() -> None:
    """Print what breaks the rules below the paths of the command line."""
    for root in map(Path, sys.argv[1:] or ["ledger", "api", "migrations"]):
        for file in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            source = file.read_text("utf-8")
            for fault in (
                *prose_faults(str(file), source),
                *action_faults(str(file), source),
                *name_faults(str(file), source),
                *error_faults(str(file), source),
            ):
                print(fault)  # noqa: T201


if __name__ == "__main__":
    main()
