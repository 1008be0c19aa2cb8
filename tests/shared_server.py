"""The server of the fixture `running` ends with the last of the files that use it in a row.

Its publisher looks for new entries ten times a second, and its threads read and write their heartbeats: through a whole
run that takes as much of a processor as the tests of many files. `tests.workers` gives these files to one process, one
after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

FIXTURE = "running"


def files_with_server(items: Iterable[pytest.Item]) -> frozenset[Path]:
    """Return the files of which at least one test uses the fixture."""
    return frozenset(item.path for item in items if FIXTURE in getattr(item, "fixturenames", ()))


class SharedServer:
    """A plugin for pytest that ends the fixture after a test if the next test's file does not use it."""

    def __init__(self) -> None:
        self._files: frozenset[Path] = frozenset()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note the files that use the fixture."""
        self._files = files_with_server(session.items)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        """After everything else of the test: end the fixture, which starts again when a test asks for it."""
        yield
        if nextitem is not None and item.path in self._files and nextitem.path not in self._files:
            for definition in item.session._fixturemanager.getfixturedefs(FIXTURE, item) or ():
                definition.finish(item._request)  # type: ignore[attr-defined]
