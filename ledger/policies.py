"""The policy shipped with the package: the one every new ledger starts from."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from ledger.core.policy import Policy, parse_policy


@lru_cache(maxsize=1)
def shipped_policy() -> tuple[str, Policy]:
    """The text and the parsed form of `ledger/core/policy.toml`; the log pins the SHA-256 of its UTF-8 bytes."""
    text = files("ledger.core").joinpath("policy.toml").read_text(encoding="utf-8")
    return text, parse_policy(text)
