"""The policy in effect: the one in the log, which must be the one shipped with this version."""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection

from ledger.core.encoding import b64url
from ledger.core.entries import GovernanceType, parse_leaf
from ledger.core.policy import Policy
from ledger.errors import ConfigurationError
from ledger.policies import shipped_policy
from ledger.store import log as log_store


def logged_policy(connection: Connection) -> tuple[str, Policy]:
    """Text and parsed form of the shipped policy. Raises ConfigurationError unless the log says it is in effect."""
    leaf = log_store.newest_governance_leaf(connection, GovernanceType.POLICY)
    text, policy = shipped_policy()
    body = None if leaf is None else parse_leaf(leaf).body
    if body is None or body["toml_sha256"] != b64url(hashlib.sha256(text.encode()).digest()):
        raise ConfigurationError("The policy shipped with this version is not the one in the log.")
    return text, policy
