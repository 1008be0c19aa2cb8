"""Checks of the key files against the keys in the log (`key_rotation` entries)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection

from ledger.errors import ConfigurationError
from ledger.protocol.encoding import b64url
from ledger.protocol.voprf import public_key
from ledger.server.keys.cards import check_receiving_key
from ledger.server.keys.epochs import EpochRow, read_epochs
from ledger.server.keys.factors import factor_pairs, factor_path, load_factor
from ledger.server.keys.files import NOT_THE_LOGGED_KEY, RECEIVING_FILE, load_oprf, load_session_key, raw_public
from ledger.server.keys.server_keys import ServerKeys
from ledger.server.log import queries as log_store
from ledger.server.settings import Settings
from ledger.tlog.checkpoint import parse_verifier_key
from ledger.tlog.entries import GovernanceType, parse_leaf

log = logging.getLogger(__name__)


def load_server_keys(settings: Settings, connection: Connection) -> ServerKeys:
    """Load the keys of an API process and check them against the newest logged ones.

    Raises ConfigurationError when a file is missing or readable by others, or when a key or factor is not the logged
    one.
    """
    logged = logged_keys(connection)
    if logged["log"]["origin"] != settings.origin:
        raise ConfigurationError("The log belongs to another service id than the one in the settings.")
    rows = read_epochs(connection)
    current = [row for row in rows if row.state == "current"]
    if len(current) != 1 or current[0].epoch != logged["epoch"]:
        raise ConfigurationError(f"The current key epoch is not the one in the log. {NOT_THE_LOGGED_KEY}")
    if current[0].is_shared:
        _check_shared(settings, rows, current[0], logged)
    else:
        _, holder, secret = load_oprf(settings, logged["epoch"])
        pinned = {share["id"]: share["public_key"] for share in logged["holders"]}
        if pinned.get(holder) != b64url(public_key(secret)) or b64url(current[0].public_key) != pinned.get(holder):
            raise ConfigurationError(f"The OPRF key in the key folder is not the one in the log. {NOT_THE_LOGGED_KEY}")
    return ServerKeys(settings, rows, load_session_key(settings), logged["log"]["key"])


def _check_shared(settings: Settings, rows: Sequence[EpochRow], current: EpochRow, logged: Mapping[str, Any]) -> None:
    """Raise ConfigurationError unless the database names the logged holders and K, each factor on this machine leads
    from one logged K to the next, and the receiving key, where it is on this machine, is that of `ledger.json`."""
    named = {(holder["index"], holder["id"], holder["public_key"]) for holder in logged["holders"]}
    stored = {(holder.index, holder.holder, b64url(holder.public_key)) for holder in current.holders}
    sharing = (logged.get("public_key"), logged.get("generation"), logged.get("threshold"))
    if named != stored or sharing != (b64url(current.public_key), current.generation, current.threshold):
        raise ConfigurationError(f"The key holders in the database are not those in the log. {NOT_THE_LOGGED_KEY}")
    for old, new in factor_pairs(rows):
        if factor_path(settings, new.epoch).exists():
            load_factor(settings, old, new)
    if (settings.keys_dir / RECEIVING_FILE).exists():
        check_receiving_key(settings)
    else:
        # Only the machine that runs `rotate` needs it.
        log.info("receiving_key_missing")


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
