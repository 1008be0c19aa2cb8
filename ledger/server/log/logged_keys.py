"""Checks of the key files against the keys in the log (`key_rotation` entries)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection

from ledger.errors import ConfigurationError
from ledger.protocol.encoding import b64url
from ledger.protocol.voprf import public_key
from ledger.server.keys.epochs import read_epochs
from ledger.server.keys.files import NOT_THE_LOGGED_KEY, ServerKeys, load_oprf, load_session_key, raw_public
from ledger.server.log import queries as log_store
from ledger.server.settings import Settings
from ledger.tlog.checkpoint import parse_verifier_key
from ledger.tlog.entries import GovernanceType, parse_leaf


def load_server_keys(settings: Settings, connection: Connection) -> ServerKeys:
    """Load the keys of an API process and check them against the newest logged ones.

    Raises ConfigurationError when a file is missing or readable by others, or when a key is not the logged one.
    """
    logged = logged_keys(connection)
    if logged["log"]["origin"] != settings.origin:
        raise ConfigurationError("The log belongs to another service id than the one in the settings.")
    epoch, holder, secret = load_oprf(settings, logged["epoch"])
    pinned = {share["id"]: share["public_key"] for share in logged["holders"]}
    rows = read_epochs(connection)
    current = [row for row in rows if row.state == "current"]
    if pinned.get(holder) != b64url(public_key(secret)) or [(row.epoch, b64url(row.public_key)) for row in current] != [
        (epoch, pinned.get(holder))
    ]:
        raise ConfigurationError(f"The OPRF key in the key folder is not the one in the log. {NOT_THE_LOGGED_KEY}")
    return ServerKeys(settings, rows, load_session_key(settings), logged["log"]["key"])


def check_log_key(key: Ed25519PrivateKey, settings: Settings, connection: Connection) -> None:
    """Raise ConfigurationError unless `key` is the log key that the log's newest `key_rotation` entry names."""
    logged = logged_keys(connection)["log"]
    origin, public = parse_verifier_key(logged["key"])
    if origin != settings.origin or public != raw_public(key):
        raise ConfigurationError("The log key in the key folder is not the one that the log names.")


def logged_keys(connection: Connection) -> Mapping[str, Any]:
    """Return the body of the newest `key_rotation` entry. Raises ConfigurationError before genesis."""
    leaf = log_store.newest_governance_leaf(connection, GovernanceType.KEY_ROTATION)
    if leaf is None:
        raise ConfigurationError("The ledger has no keys in its log yet. Run `refund-ledger keys init` first.")
    body = parse_leaf(leaf).body
    assert body is not None
    return body
