"""Admission: which platforms a holder serves, under which control group, and with which keys.

Only the holder's own people admit. A further key of an admitted platform counts if a key that is admitted endorsed it.
The log can only take away: it suspends platforms and revokes keys (`ledger.holder.log_follower`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from ledger.errors import AlreadyExists, InvalidRequest, LimitExceeded, NotAdmitted, NotFound, QuotaExceeded
from ledger.holder import budget_queries
from ledger.holder import queries as store
from ledger.holder.queries import AdmittedKeyRow
from ledger.protocol.signing_keys import check_public_key
from ledger.server.db.engine import writing

MAX_KEYS = 50
"""Keys of one platform, revoked ones included."""
MAX_DAILY_ELEMENTS = 10**12

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,31}\Z")
_KID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Admission:
    """The result of `admit_platform`: whether the platform and the key are new here."""

    new_platform: bool
    new_key: bool


def admit_platform(
    engine: Engine,
    *,
    platform: str,
    control_group: str,
    kid: str,
    public_key: bytes,
    now: datetime,
    daily_elements: int | None = None,
) -> Admission:
    """Admit a platform with an Ed25519 public key (32 bytes), or give an admitted one a further key. Repeating it
    changes nothing.

    A key that another platform has by endorsement only is taken from it: public keys are public, so a platform could
    present another one's before that one is admitted. `daily_elements` becomes the daily budget of the control group;
    None leaves it unchanged. Raises InvalidRequest,
    InvalidPublicKey (`protocol.signing_keys`), AlreadyExists (the platform is in another control group, its kid has
    another key, or the key is another platform's), DatabaseUnavailable.
    """
    _require(
        _NAME.match(platform), "A platform's name is 2 to 32 of a-z, 0-9 and -, and starts with a letter or digit."
    )
    _require(_NAME.match(control_group), "A control group's name follows the same rule as a platform's.")
    check_key_name(kid)
    check_public_key(public_key)
    check_daily(daily_elements)
    try:
        with writing(engine) as connection:
            row = store.lock_admitted(connection, platform)
            if row is not None and row.control_group != control_group:
                raise AlreadyExists(f"This platform is admitted in the control group {row.control_group}.")
            store.ensure_group(connection, control_group)
            if daily_elements is not None:
                store.set_daily(connection, control_group, daily_elements)
            if row is None:
                store.insert_admitted(connection, platform, control_group, now)
            taken_from = store.delete_endorsed_key(connection, public_key, platform)
            new_key = _add_key(connection, AdmittedKeyRow(platform, kid, public_key, None, now, None))
    except IntegrityError as error:
        raise AlreadyExists("The platform or this public key is admitted already.") from error
    if taken_from is not None:
        log.warning("endorsed_key_taken", extra={"platform": taken_from, "kid": kid})
    log.info("platform_admitted", extra={"platform": platform, "control_group": control_group})
    return Admission(row is None, new_key)


def endorse_key(
    engine: Engine,
    *,
    platform: str,
    kid: str,
    public_key: bytes,
    endorsed_by: str,
    token: tuple[bytes, int],
    now: datetime,
) -> bool:
    """Give an admitted platform a further key (32 bytes), which its key `endorsed_by` presented with a token: (digest,
    expiry). True unless the platform had this key already.

    The token is recorded as used in the same transaction. Raises InvalidRequest, InvalidPublicKey, TokenUsed,
    NotAdmitted, AlreadyExists, QuotaExceeded (too many keys), DatabaseUnavailable.
    """
    check_key_name(kid)
    check_public_key(public_key)
    try:
        with writing(engine) as connection:
            budget_queries.use_token(connection, *token)
            if store.lock_admitted(connection, platform) is None:
                raise NotAdmitted("This key holder has not admitted the platform.")
            is_new = _add_key(connection, AdmittedKeyRow(platform, kid, public_key, endorsed_by, now, None))
    except IntegrityError as error:
        raise AlreadyExists("This public key is known already.") from error
    except LimitExceeded as error:
        raise QuotaExceeded(str(error), limit="keys", retry_after_seconds=3600) from error
    if is_new:
        log.info("key_endorsed", extra={"platform": platform, "kid": kid, "endorsed_by": endorsed_by})
    return is_new


def _add_key(connection: Connection, row: AdmittedKeyRow) -> bool:
    """Insert a key unless the platform has it. Raises AlreadyExists, LimitExceeded."""
    known: Mapping[str, AdmittedKeyRow] = {key.kid: key for key in store.read_keys_of(connection, row.platform)}
    if row.kid in known:
        if known[row.kid].public_key != row.public_key:
            raise AlreadyExists("The platform has another key of this id.")
        if known[row.kid].revoked_at is not None:
            raise AlreadyExists("This key is revoked here. Make a new one.")
        return False
    if len(known) >= MAX_KEYS:
        raise LimitExceeded(f"A platform has at most {MAX_KEYS} keys here.")
    store.insert_admitted_key(connection, row)
    return True


def set_suspension(engine: Engine, *, platform: str, suspended: bool, now: datetime) -> None:
    """Suspend a platform, or lift the holder's own suspension; that of the log stays. Raises NotFound,
    DatabaseUnavailable."""
    with writing(engine) as connection:
        row = store.lock_admitted(connection, platform)
        if row is None:
            raise NotFound("There is no admitted platform of this name.")
        if (row.suspended_at is not None) != suspended:
            store.set_suspended(connection, platform, now if suspended else None)
    log.info("platform_suspended" if suspended else "suspension_lifted", extra={"platform": platform})


def revoke_key(engine: Engine, *, platform: str, kid: str, now: datetime) -> None:
    """Revoke a key of an admitted platform for good. Raises NotFound, DatabaseUnavailable."""
    with writing(engine) as connection:
        if not store.revoke_admitted_key(connection, platform, kid, now):
            raise NotFound("The platform has no key of this id here.")
    log.info("key_revoked", extra={"platform": platform, "kid": kid})


def set_daily_budget(engine: Engine, *, control_group: str, daily_elements: int | None) -> None:
    """Set the daily budget of a control group in elements; None returns to the holder's default. Raises InvalidRequest,
    NotFound, DatabaseUnavailable."""
    check_daily(daily_elements)
    with writing(engine) as connection:
        if not store.has_group(connection, control_group):
            raise NotFound("No admitted platform is in this control group.")
        store.set_daily(connection, control_group, daily_elements)
    log.info("daily_budget_set", extra={"control_group": control_group, "elements": daily_elements})


def check_key_name(kid: str) -> None:
    """Check the id of a key. Raises InvalidRequest."""
    _require(_KID.match(kid), "A key id is 1 to 64 letters, digits, dots, underscores or hyphens.")


def check_daily(elements: int | None) -> None:
    """Check a daily budget. Raises InvalidRequest."""
    _require(
        elements is None or 0 <= elements <= MAX_DAILY_ELEMENTS,
        f"A daily budget is 0 to {MAX_DAILY_ELEMENTS:,} elements.",
    )


def _require(condition: Any, message: str) -> None:
    if not condition:
        raise InvalidRequest(message)
