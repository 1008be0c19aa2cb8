"""Small ledgers with every secret in reach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.shared_ledger import SharedLedger, shared_ledger
from tests.client.small_ledger import SmallLedger, small_ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SmallLedger]:
    """A SmallLedger that is being served."""
    with small_ledger(tmp_path) as ledger:
        yield ledger


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedLedger]:
    """A SharedLedger of 2 of 3 holders that is being served."""
    with shared_ledger(tmp_path) as ledger:
        yield ledger
