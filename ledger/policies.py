"""The policies shipped with the package. A new ledger starts with the newest one; what a ledger goes by after that is
said by its log (`ledger.service.logged_policy`)."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.resources import files

from ledger.core.policy import Policy, parse_policy

SHIPPED_VERSION = 1
"""The version that a new ledger starts with: `ledger/core/policies/{version}.toml`."""


def policy_text(version: int) -> str:
    """The text of the policy of `version`, 1 to SHIPPED_VERSION; the log pins the SHA-256 of its UTF-8 bytes."""
    return files("ledger.core").joinpath("policies", f"{version}.toml").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def shipped_policy() -> tuple[str, Policy]:
    """The text and the parsed form of the newest policy of the package."""
    text = policy_text(SHIPPED_VERSION)
    return text, parse_policy(text)


@lru_cache(maxsize=1)
def shipped_texts() -> dict[bytes, str]:
    """The texts of all policies of the package, by the SHA-256 (32 bytes) of their UTF-8 bytes."""
    found = [policy_text(version) for version in range(1, SHIPPED_VERSION + 1)]
    return {hashlib.sha256(text.encode()).digest(): text for text in found}
