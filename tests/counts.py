"""How much a test tries: little in `make test`, much in `make soak`, which sets `LONG_TESTS=1`."""

from __future__ import annotations

import os
from typing import TypeVar

Amount = TypeVar("Amount")

LONG = os.environ.get("LONG_TESTS") == "1"


def trials(small: Amount, long: Amount) -> Amount:
    """`small`, or `long` where the environment sets `LONG_TESTS=1`."""
    return long if LONG else small
