"""Local features of a picture, computed once in a test process.

They are half of a comparison, and most tests compare with the same listing.
"""

from __future__ import annotations

import hashlib

import pytest

from ledger.evidence.listing import registration
from ledger.evidence.listing.registration import Bytes, Features

_compute = registration.features
_found: dict[tuple[tuple[int, ...], bytes], Features] = {}


def _remembered(pixels: Bytes) -> Features:
    key = (pixels.shape, hashlib.sha256(pixels.tobytes()).digest())
    if key not in _found:
        _found[key] = _compute(pixels)
        for array in (_found[key].places, _found[key].descriptors):
            array.setflags(write=False)  # what one test changed, another would get
    return _found[key]


@pytest.fixture
def afresh() -> None:
    """For a test that is about computing: equal pictures are looked at each time."""


@pytest.fixture(autouse=True)
def features_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the file that imports this, features of equal pictures are computed once, except for tests with `afresh`."""
    if "afresh" not in request.fixturenames:
        monkeypatch.setattr(registration, "features", _remembered)
