"""One running ledger for these tests, and SDKs on it (see `tests/kit.py`)."""

from __future__ import annotations

from tests.commands import build_commands_once
from tests.kit import connect, reviewers, running

__all__ = ["connect", "reviewers", "running"]

build_commands_once()
