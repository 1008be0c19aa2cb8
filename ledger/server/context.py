"""What use cases need of the process that runs them, whatever their feature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from ledger.rules.policy.timeline import PolicySource
from ledger.rules.policy.values import Policy


@dataclass(frozen=True, slots=True)
class Context:
    """Database, policies, service id, clock (aware UTC), a source of 32-byte salts, and the environment (`live` or
    `test`). A use case takes it as its first parameter, or an object of its feature that holds it."""

    engine: Engine
    policies: PolicySource
    service: str
    now: Callable[[], datetime]
    new_salt: Callable[[], bytes]
    environment: str

    @property
    def policy(self) -> Policy:
        """The policy in effect now. Raises PolicyUnreadable."""
        return self.policies.at(self.now())
