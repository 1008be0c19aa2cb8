"""How much a test tries: little in `make test`, much in `make soak`, which sets `LONG_TESTS=1`."""

from __future__ import annotations

import os
from typing import TypeVar

Amount = TypeVar("Amount")

LONG = os.environ.get("LONG_TESTS") == "1"
CHECKS = LONG or os.environ.get("CHECKS") == "1"
"""Whether tests that check the code itself and its pages run: in `make check` and `make soak`."""


def trials(small: Amount, long: Amount) -> Amount:
    """`small`, or `long` where the environment sets `LONG_TESTS=1`."""
    return long if LONG else small
