"""Member platforms and their keys: a snapshot that every request reads, and the operator's commands that change them.

Each change of a platform, its keys or its status, on which signatures and weights depend, is a public `platform_status`
entry, appended in the same transaction as the change. A change of a quota is not logged: it does not affect the
standing of any tag.

A suspension applies to a platform: its tokens are refused at once. When all platforms of a control group are suspended,
its weight is 0 from the next UTC midnight on (at once if the suspension is urgent, or under policy version 1). While
one of them is active, the reports of the group keep their weight, because that platform still answers for them.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from ledger.errors import AlreadyExists, DatabaseUnavailable, InvalidRequest, NotFound
from ledger.protocol.encoding import day_floor
from ledger.protocol.signing_keys import check_public_key, is_sound
from ledger.rules.jurisdictions import Profile
from ledger.rules.policy.shipped import shipped_policy
from ledger.rules.policy.values import Policy
from ledger.server.db.engine import read_again, reading, writing
from ledger.server.keys.epochs import EpochRow, read_epochs
from ledger.server.log.writer import append_governance
from ledger.server.platforms import queries as store
from ledger.server.platforms.group_weights import WeightTable, read_weight_table
from ledger.server.platforms.queries import KeyRow, PlatformRow
from ledger.server.process.supervision import Worker
from ledger.tlog.entries import GovernanceType, PlatformState, platform_status_body

SCOPES = frozenset({"lookup", "report", "appeal", "log"})
PROFILES = frozenset(map(str, Profile))
MAX_AGE_SECONDS = 5.0
"""A revocation is effective within this time in every process: no request is accepted on an older snapshot."""

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,31}\Z")
_KID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Member:
    """A platform as a request uses it."""

    platform: str
    control_group: str
    profile: str
    scopes: frozenset[str]
    status: str
    oprf_daily_quota_elements: int | None

    @property
    def suspended(self) -> bool:
        """True if its tokens are refused."""
        return self.status == PlatformState.SUSPENDED


@dataclass(frozen=True, slots=True)
class MemberKey:
    """A platform's Ed25519 public key (32 bytes).

    No signature of a `revoked` key is accepted. A key that is not `sound` counts as revoked, because others can sign in
    its name; earlier versions enrolled such keys.
    """

    kid: str
    platform: str
    public_key: bytes
    revoked: bool
    sound: bool = True


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """All rows as one transaction read them; `started` is the monotonic time when the read began, `counted` that of the
    read which counted the decisions behind the weights."""

    members: Mapping[str, Member]
    keys: Mapping[str, MemberKey]
    weights: WeightTable
    epochs: tuple[EpochRow, ...]
    started: float
    counted: float


class Members:
    """All platforms, their keys and the key epochs (these are passed to `on_epochs`), re-read every `refresh_seconds`
    by a background thread.

    Reading takes no lock: a refresh replaces one reference. When the newest snapshot is older than 5 s (the database is
    not available) every read raises DatabaseUnavailable, so that a revoked key is not accepted for longer.
    """

    def __init__(
        self,
        engine: Engine,
        refresh_seconds: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
        on_epochs: Callable[[Sequence[EpochRow]], object] = lambda _rows: None,
        *,
        policy_at: Callable[[datetime], Policy] = lambda _now: shipped_policy()[1],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._monotonic = monotonic
        self._on_epochs = on_epochs
        self._policy_at = policy_at
        self._now = now
        self._refreshing = threading.Lock()
        self._snapshot = self._read(None)
        for key in self._snapshot.keys.values():
            if not key.sound:
                log.warning("platform_key_unsound", extra={"platform": key.platform, "kid": key.kid})
        self.worker = Worker(
            "members",
            lambda: self.refresh(count_again=False),  # resolved at each run, because tests replace the method
            seconds=refresh_seconds,
            delay_seconds=refresh_seconds,
            patience_seconds=MAX_AGE_SECONDS,
        ).start()

    def close(self, timeout_seconds: float | None = None) -> None:
        """Stop refreshing."""
        self.worker.close(timeout_seconds)

    def refresh(self, *, count_again: bool = True) -> None:
        """Read all rows now; count the decisions behind weights again only with `count_again`, or when that is due.

        Raises DatabaseUnavailable, PolicyUnreadable; the last snapshot then stays until it is too old.
        """
        while not self._replaced(self._read(None if count_again else self._snapshot)):
            # Another read began later, but with decisions that were counted earlier.
            pass

    def _replaced(self, snapshot: _Snapshot) -> bool:
        """Make `snapshot` the newest one, unless a concurrent read began or counted later. False if its counts are
        missing from a snapshot that is otherwise newer: neither has everything."""
        with self._refreshing:
            newest = self._snapshot
            if snapshot.started >= newest.started and snapshot.counted >= newest.counted:
                self._on_epochs(snapshot.epochs)
                self._snapshot = snapshot
            return self._snapshot.counted >= snapshot.counted

    def fresh(self) -> bool:
        """True if the snapshot is recent enough to accept requests."""
        return self._monotonic() - self._snapshot.started <= MAX_AGE_SECONDS

    def member(self, platform: str) -> Member | None:
        """Return the platform of this name, None if there is none. Raises DatabaseUnavailable."""
        return self._current().members.get(platform)

    def key(self, kid: str) -> MemberKey | None:
        """Return the key of this id, revoked or not, None if there is none. Raises DatabaseUnavailable."""
        return self._current().keys.get(kid)

    def holder(self, kid: str, platform: str) -> tuple[MemberKey | None, Member | None]:
        """Return `key` and `member` of one snapshot. Raises DatabaseUnavailable."""
        snapshot = self._current()
        return snapshot.keys.get(kid), snapshot.members.get(platform)

    def weights(self, now: datetime | None = None) -> Mapping[str, int]:
        """Return the weight in fortieths by control group at `now` (default: this moment).

        It is 0 for a group whose reports carry none, because all its platforms are suspended. Raises
        DatabaseUnavailable.
        """
        return self._current().weights.at(self._now() if now is None else now)

    def _current(self) -> _Snapshot:
        snapshot = self._snapshot
        if self._monotonic() - snapshot.started > MAX_AGE_SECONDS:
            raise DatabaseUnavailable("The list of members is out of date. Try again.", retry_after_seconds=1)
        return snapshot

    def _read(self, before: _Snapshot | None) -> _Snapshot:
        started, now = self._monotonic(), self._now()
        known = None if before is None else before.weights

        def read(connection: Connection) -> _Snapshot:
            platforms = store.read_platforms(connection)
            weights = read_weight_table(connection, self._policy_at, now, platforms, known)
            counted = started
            if before is not None and weights.counted_at == before.weights.counted_at:
                counted = before.counted  # the counts of the last snapshot, or some of them
            return _Snapshot(
                members=MappingProxyType({row.name: _member(row) for row in platforms}),
                keys=MappingProxyType({row.kid: _key(row) for row in store.read_keys(connection)}),
                weights=weights,
                epochs=read_epochs(connection),
                started=started,
                counted=counted,
            )

        return read_again(self._engine, read)


def _member(row: PlatformRow) -> Member:
    return Member(
        platform=row.name,
        control_group=row.control_group,
        profile=row.profile,
        scopes=frozenset(row.scopes.split()),
        status=row.status,
        oprf_daily_quota_elements=row.oprf_daily_quota_elements,
    )


def _key(row: KeyRow) -> MemberKey:
    sound = is_sound(bytes(row.public_key))
    return MemberKey(row.kid, row.platform, row.public_key, row.revoked_at is not None or not sound, sound)


# --- the operator's commands ------------------------------------------------------------------------------------


def add_platform(
    engine: Engine,
    *,
    name: str,
    control_group: str,
    profile: str,
    scopes: Iterable[str],
    kid: str,
    public_key: bytes,
    now: datetime,
    quota: int | None = None,
) -> None:
    """Enrol a platform with its first Ed25519 public key (32 bytes), and log it.

    `quota` is its daily number of blinded elements; None means the service's default. Raises InvalidRequest,
    InvalidPublicKey (`protocol.signing_keys`), AlreadyExists (name, kid or public key is known), LogFrozen,
    DatabaseUnavailable.
    """
    _require(_NAME.match(name), "A platform's name is 2 to 32 of a-z, 0-9 and -, and starts with a letter or digit.")
    _require(_NAME.match(control_group), "A control group's name follows the same rule as a platform's.")
    _require(profile in PROFILES, f"The profile must be one of {', '.join(Profile)}.")
    granted = frozenset(scopes)
    _require(granted and granted <= SCOPES, "Scopes are one or more of lookup, report, appeal and log.")
    _check_key(kid, public_key)
    _check_quota(quota)
    row = PlatformRow(
        name=name,
        control_group=control_group,
        profile=profile,
        scopes=" ".join(sorted(granted)),
        status=PlatformState.ACTIVE,
        oprf_daily_quota_elements=quota,
        created_at=now,
    )
    try:
        with writing(engine) as connection:
            if store.lock_platform(connection, name) is not None:
                raise AlreadyExists("There is a platform of this name already.")
            store.ensure_control_group(connection, control_group)
            store.insert_platform(connection, row)
            _insert_key(connection, kid, name, public_key, now)
            _log_state(connection, row, now)
    except IntegrityError as error:  # the same command twice at once
        raise AlreadyExists("There is a platform of this name already.") from error


def add_key(engine: Engine, *, platform: str, kid: str, public_key: bytes, now: datetime) -> None:
    """Give a platform one more Ed25519 public key (32 bytes), and log it.

    Raises InvalidRequest, InvalidPublicKey, NotFound, AlreadyExists (kid or public key is known), LogFrozen,
    DatabaseUnavailable.
    """
    _check_key(kid, public_key)
    try:
        with writing(engine) as connection:
            row = _locked(connection, platform)
            _insert_key(connection, kid, platform, public_key, now)
            _log_state(connection, row, now)
    except IntegrityError as error:
        raise AlreadyExists("This key id or public key is known already.") from error


def revoke_key(engine: Engine, kid: str, now: datetime) -> None:
    """Revoke a key permanently, and log it; within 5 s no process accepts it. Revoking it again changes nothing.

    Raises NotFound, LogFrozen, DatabaseUnavailable.
    """
    with writing(engine) as connection:
        key = store.read_key(connection, kid)
        if key is None:
            raise NotFound("There is no key of this id.")
        row = _locked(connection, key.platform)
        if store.set_key_revoked(connection, kid, now):
            _log_state(connection, row, now)


def set_status(engine: Engine, *, platform: str, status: str, now: datetime, urgent: bool = False) -> None:
    """Make a platform `active` or `suspended`, and log it. Setting the present status changes nothing.

    The weight of its control group follows from the next UTC midnight on. An `urgent` suspension removes the platform's
    weight at once, also if the platform is suspended already.

    Raises InvalidRequest, NotFound, LogFrozen, DatabaseUnavailable.
    """
    with writing(engine) as connection:
        change_status(connection, platform, status, now, urgent=urgent)


def change_status(connection: Connection, platform: str, status: str, now: datetime, *, urgent: bool = False) -> bool:
    """Set the status as `set_status` does, in the caller's transaction. True if anything changed. Raises
    InvalidRequest, NotFound, LogFrozen."""
    _require(status in set(PlatformState), "The status must be active or suspended.")
    _require(not urgent or status == PlatformState.SUSPENDED, "Only a suspension is urgent.")
    row = _locked(connection, platform)
    changed_today = row.status_changed_at is not None and day_floor(row.status_changed_at) >= day_floor(now)
    weighs = bool(row.weighed_before) if changed_today else row.status != PlatformState.SUSPENDED
    if row.status == status:
        if not (urgent and weighs):
            return False
        store.set_platform_status(connection, platform, status, changed_at=now, weighed_before=False)
        return True
    store.set_platform_status(connection, platform, status, changed_at=now, weighed_before=weighs and not urgent)
    _log_state(connection, _locked(connection, platform), now)
    return True


def set_quota(engine: Engine, *, platform: str, quota: int | None) -> None:
    """Set the daily number of blinded elements; None returns to the service's default.

    Raises InvalidRequest, NotFound, DatabaseUnavailable.
    """
    with writing(engine) as connection:
        change_quota(connection, platform, quota)


def change_quota(connection: Connection, platform: str, quota: int | None) -> int | None:
    """Set the quota as `set_quota` does, in the caller's transaction, and return the previous one. Raises
    InvalidRequest, NotFound."""
    _check_quota(quota)
    before = _locked(connection, platform).oprf_daily_quota_elements
    store.set_platform_quota(connection, platform, quota)
    return before


def list_platforms(engine: Engine) -> list[tuple[Member, list[MemberKey]]]:
    """Return every platform with its keys, by name. Raises DatabaseUnavailable."""
    with reading(engine) as connection:
        platforms = store.read_platforms(connection)
        keys = [_key(row) for row in store.read_keys(connection)]
    return [(_member(row), [key for key in keys if key.platform == row.name]) for row in platforms]


def _insert_key(connection: Connection, kid: str, platform: str, public_key: bytes, now: datetime) -> None:
    if store.read_key(connection, kid) is not None:
        raise AlreadyExists("There is a key of this id already.")
    if store.public_key_known(connection, public_key):
        raise AlreadyExists("This public key belongs to a platform already. Each key is used by one platform only.")
    store.insert_key(connection, kid=kid, platform=platform, public_key=public_key, created_at=now)


def _locked(connection: Connection, platform: str) -> PlatformRow:
    row = store.lock_platform(connection, platform)
    if row is None:
        raise NotFound("There is no platform of this name.")
    return row


def _log_state(connection: Connection, row: PlatformRow, now: datetime) -> None:
    keys = store.read_platform_keys(connection, row.name)
    body = platform_status_body(
        platform=row.name,
        control_group=row.control_group,
        profile=row.profile,
        status=PlatformState(row.status),
        keys=[(key.kid, key.public_key, key.revoked_at is not None) for key in keys],
    )
    append_governance(connection, GovernanceType.PLATFORM_STATUS, body, now)


def _check_key(kid: str, public_key: bytes) -> None:
    _require(_KID.match(kid), "A key id is 1 to 64 letters, digits, dots, underscores or hyphens.")
    check_public_key(public_key)


def _check_quota(quota: int | None) -> None:
    _require(quota is None or 0 <= quota <= 2**31 - 1, "A quota lies between 0 and 2,147,483,647 elements a day.")


def _require(condition: object, message: str) -> None:
    if not condition:
        raise InvalidRequest(message)
