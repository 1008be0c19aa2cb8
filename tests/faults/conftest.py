"""Fault tests start from a migrated database."""

from __future__ import annotations

import pytest


@pytest.fixture
def database_url(migrated_url: str) -> str:
    """Here every test starts from a database with the schema."""
    return migrated_url
