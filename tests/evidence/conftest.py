"""What several tests of inspections share."""

from __future__ import annotations

import pytest

from tests.evidence import files
from tests.evidence.signed import certificate, created, sign


@pytest.fixture(scope="session")
def signed_png() -> bytes:
    """A PNG with a manifest that says "made by AI"."""
    return sign(files.png(), "image/png", [created("trainedAlgorithmicMedia")], **certificate())
