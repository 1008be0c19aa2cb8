"""The policy in effect: the one in the log, which must be one of those shipped with this version."""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection

from ledger.core.encoding import b64url
from ledger.core.entries import GovernanceType, parse_leaf
from ledger.core.policy import Policy
from ledger.errors import ConfigurationError
from ledger.policies import SHIPPED_VERSION, shipped_version
from ledger.store import log as log_store


def logged_policy(connection: Connection) -> tuple[str, Policy]:
    """Text and parsed form of the policy that the log says is in effect. Raises ConfigurationError if its text was not
    shipped with this version."""
    leaf = log_store.newest_governance_leaf(connection, GovernanceType.POLICY)
    body = None if leaf is None else parse_leaf(leaf).body
    for version in range(SHIPPED_VERSION, 0, -1):
        text, policy = shipped_version(version)
        if body is not None and body["toml_sha256"] == b64url(hashlib.sha256(text.encode()).digest()):
            return text, policy
    raise ConfigurationError("The policy shipped with this version is not the one in the log.")
