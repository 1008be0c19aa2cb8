"""SQL that one engine has compiled serves the other engines of the test process.

SQLAlchemy keeps compiled statements by engine, and every test opens a ledger with engines of its own: compiling the
same two hundred statements for each took a third of the run. Engines of one kind of database differ in nothing that
compiling looks at (`ledger.server.db.engine` makes all of them), so they share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from sqlalchemy import Engine


class SharedStatements(MutableMapping[Any, Any]):
    """A cache for `Engine`, whose keys begin with the engine's own dialect: here the dialect's name takes its place."""

    def __init__(self) -> None:
        self._compiled: dict[Any, Any] = {}

    def __getitem__(self, key: Any) -> Any:
        return self._compiled[key[0].name, *key[1:]]

    def get(self, key: Any, default: Any = None) -> Any:
        return self._compiled.get((key[0].name, *key[1:]), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        self._compiled[key[0].name, *key[1:]] = compiled

    def __delitem__(self, key: Any) -> None:
        del self._compiled[key[0].name, *key[1:]]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._compiled)

    def __len__(self) -> int:
        return len(self._compiled)


def sharing(create_engine: Callable[..., Engine]) -> Callable[..., Engine]:
    """`create_engine` whose engines share what they compile, and how they convert values of each type."""
    statements = SharedStatements()
    types: dict[str, Any] = {}

    def create(*arguments: Any, **options: Any) -> Engine:
        engine = create_engine(*arguments, **options)
        engine._compiled_cache = statements
        # A cached statement's result would otherwise learn the new statement's columns as keys, at every execution:
        # rows are read by name and by place only.
        engine.update_execution_options(_result_disable_adapt_to_context=True)
        name = engine.dialect.name
        engine.dialect.__dict__["_type_memos"] = types.setdefault(name, engine.dialect._type_memos)
        # A row can then not be asked by a column object, which the ledger never does: by name and place it still can.
        # To make that possible took a seventh of the time of all statements.
        engine.update_execution_options(_result_disable_adapt_to_context=True)
        return engine

    return create
