"""Every frozen SDK against the server of today: reports, receipts, lookups, checks and `verify` go on."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger.server.keys.files import load_log_key
from ledger.server.snapshots.builder import build_and_publish, builder_engine
from tests.compat.freeze import HERE, MAX_ARCHIVE_BYTES, is_kept
from tests.kit import Running

FROZEN = sorted(HERE.glob("sdk-*.zip"))


def run(package: Path, arguments: Sequence[str]) -> str:
    """What a program prints under a frozen SDK, with the libraries of this environment."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("REFUND_LEDGER_", "PYTHON", "COV_"))
    }
    done = subprocess.run(
        [sys.executable, "-P", *arguments],
        env={**environment, "PYTHONPATH": str(package)},
        cwd=package,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def published(running: Running) -> Running:
    """The running ledger, with a snapshot that its log proves."""
    engine = builder_engine(running.settings)
    try:
        build_and_publish(
            running.settings,
            engine,
            load_log_key(running.settings),
            datetime.now(UTC),
            random_bytes=secrets.token_bytes,
        )
    finally:
        engine.dispose()
    return running


def test_an_archive_has_the_catalogues_that_the_sdk_reads() -> None:
    kept = [name for name in ("answers.po", "letters.po") if is_kept(f"ledger/locale/zh_CN/{name}")]
    assert kept == ["answers.po"]


def test_there_is_a_frozen_sdk() -> None:
    assert FROZEN
    assert all(path.stat().st_size <= MAX_ARCHIVE_BYTES for path in FROZEN)


@pytest.mark.parametrize("path", FROZEN, ids=lambda path: path.stem)
def test_a_frozen_sdk_works_with_the_server_of_today(published: Running, path: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "package")
    package, suite = tmp_path / "package", str(published.suite("acme"))
    trip = str(Path(__file__).with_name("trip.py"))
    found = json.loads(run(package, [trip, suite, str(published.key("acme")), str(tmp_path / "state")]))
    assert Path(found.pop("package")) == package / "ledger"
    assert found == {
        "report": "accepted",
        "receipt": True,
        "view": "fake_return_tracking",
        "clean": ["clear", "direct", 0, None],
        "lookup": found["lookup"],
        "private": "private",
        "download": "download",
    }
    # It counts at once, or from the next UTC midnight on, as the policy says; the answer is the ledger's either way.
    assert found["lookup"][:2] in (["watch", "direct"], ["clear", "direct"])
    verified = json.loads(run(package, ["-m", "ledger", "verify", "--suite", suite, "--json"]))
    assert verified["verified"] is True
