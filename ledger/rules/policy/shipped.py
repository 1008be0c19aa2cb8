"""The policies shipped with the package. A new ledger starts with the newest one; after that, its log says which
policy is in effect (`ledger.server.log.policies`)."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.resources import files

from ledger.rules.policy.values import Policy, parse_policy

SHIPPED_VERSION = 2
"""The version that a new ledger starts with: `ledger/rules/policy/texts/{version}.toml`."""


def policy_text(version: int) -> str:
    """Return the text of the policy of `version`, 1 to SHIPPED_VERSION; the log pins the SHA-256 of its UTF-8 bytes."""
    return files("ledger.rules.policy").joinpath("texts", f"{version}.toml").read_text(encoding="utf-8")


def shipped_policy() -> tuple[str, Policy]:
    """Return the text and the parsed form of the newest policy of the package."""
    return shipped_version(SHIPPED_VERSION)


@lru_cache(maxsize=SHIPPED_VERSION)
def shipped_version(version: int) -> tuple[str, Policy]:
    """Return the text and the parsed form of the policy of `version`, 1 to SHIPPED_VERSION."""
    text = policy_text(version)
    return text, parse_policy(text)


@lru_cache(maxsize=1)
def shipped_texts() -> dict[bytes, str]:
    """Return the texts of all policies of the package, by the SHA-256 (32 bytes) of their UTF-8 bytes."""
    texts = [policy_text(version) for version in range(1, SHIPPED_VERSION + 1)]
    return {hashlib.sha256(text.encode()).digest(): text for text in texts}
