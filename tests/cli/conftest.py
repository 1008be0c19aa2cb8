"""One running ledger for these tests, and SDKs on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.client import RefundLedger
from tests.kit import Connect, Running, make_running


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Shared by all tests of a process: use buyers and orders of your own."""
    yield from make_running(tmp_path_factory.mktemp("ledger"))


@pytest.fixture
def connect(running: Running, tmp_path: Path) -> Iterator[Connect]:
    """`connect("acme", url=None, **options)` opens an SDK with a state folder of its own."""
    opened: list[RefundLedger] = []

    def make(name: str = "acme", url: str | None = None, **settings: Any) -> RefundLedger:
        settings.setdefault("state_dir", tmp_path / f"state-{name}")
        made = RefundLedger(running.suite(name, url), running.key(name), **settings)
        opened.append(made)
        return made

    yield make
    for one in opened:
        one.close()
