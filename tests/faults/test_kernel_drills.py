"""A PostgreSQL whose packets the kernel drops, and one whose disk is full: only in `make soak`, and only for root."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.counts import LONG
from tests.faults import kernel_drills
from tests.faults.drills import SHORT
from tests.faults.test_database_drills import check

pytestmark = [pytest.mark.postgresql, pytest.mark.skipif(not LONG, reason="takes half a minute: make soak")]


@pytest.mark.parametrize("name", sorted(kernel_drills.DRILLS))
def test_a_drill_of_the_kernel(name: str, tmp_path: Path) -> None:
    reason = kernel_drills.reason_to_skip()
    if reason is not None:
        pytest.skip(reason)
    check(kernel_drills.run_apart(name, tmp_path / name, 3.0, **SHORT))
