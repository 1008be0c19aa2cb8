"""What every call of the SDK rests on: keys, tokens, HTTP, the state folder, and the key epochs of the service."""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.client.environment import read_credentials
from ledger.client.epochs import Epochs
from ledger.client.forks import ForkLock
from ledger.client.keyfiles import load_signing_key, order_key_source
from ledger.client.outbox import Outbox
from ledger.client.questions import Questioner
from ledger.client.receipts import log_fetcher
from ledger.client.snapshot_cache import SnapshotCache
from ledger.client.snapshots import Snapshots
from ledger.client.state import (
    CHECKPOINT_FILE,
    EPOCHS_FILE,
    OUTBOX_FILE,
    SNAPSHOTS_FOLDER,
    SeenCheckpoint,
    default_state_dir,
)
from ledger.client.subjects import Blinder, Buyer, Canonical
from ledger.client.suite import Suite, load_suite, parse_service
from ledger.client.texts import Texts
from ledger.client.tokens import TokenSource
from ledger.client.transport import Answer, Deadline, Transport
from ledger.core.encoding import b64url
from ledger.errors import ConfigurationError, StaleEpoch

LOOKUP_BUDGET_SECONDS = 0.3
"""A refund review never waits longer for the ledger, connection and blinding included."""
READ_BUDGET_SECONDS = 10.0
ATTEMPT_SECONDS = 5.0
REFUSED_RETENTION_DAYS = 30
"""How long the outbox keeps what the ledger refused: time to look at it, and less than anything else is kept."""

_log = logging.getLogger("refund_ledger")
_log.addHandler(logging.NullHandler())  # a library writes to nobody's standard error

T = TypeVar("T")


def utc_now() -> datetime:
    """The clock of the real world."""
    return datetime.now(UTC)


class Session:
    """A platform's connection to the ledger; `RefundLedger` adds what can be asked over it."""

    def __init__(
        self,
        suite: str | Path | Suite,
        key: str | Path | Ed25519PrivateKey,
        *,
        state_dir: str | Path | None = None,
        order_key: bytes | str | Path | None = None,
        scopes: Iterable[str] | None = None,
        lookup_budget_seconds: float = LOOKUP_BUDGET_SECONDS,
        budget_seconds: float = READ_BUDGET_SECONDS,
        refused_retention_days: int = REFUSED_RETENTION_DAYS,
        insecure_http: bool = False,
        now: Callable[[], datetime] = utc_now,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        transport: Transport | None = None,
    ) -> None:
        """Reads suite and keys; nothing is sent before the first call.

        `suite` is what `refund-ledger platform add` wrote and `key` the signing key of `refund-ledger make-key`, by
        their files or as objects. `state_dir` keeps the outbox, the last checkpoint, proven key epochs and snapshots
        (default: `~/.local/state/refund-ledger/...`); share it among the processes of one host, and keep it. Where it
        cannot be written, all but the outbox is kept in memory, with one warning. `order_key` is 32 bytes or a file; by
        default `acme.order.key` beside the signing key of the platform acme. `scopes` narrows the tokens.
        `refused_retention_days` (0 to 60) is how long the outbox keeps what the ledger refused.
        `lookup_budget_seconds` bounds a lookup, `budget_seconds` each write, all its attempts together.
        `insecure_http` allows plain http to another machine. `now`, `random_bytes` and `transport` are for tests.

        Raises ConfigurationError.
        """
        self.suite = suite if isinstance(suite, Suite) else load_suite(suite)
        self._key = key if isinstance(key, Ed25519PrivateKey) else load_signing_key(key)
        self._order_key = order_key_source(order_key, key, self.suite.platform)
        self._state_dir = default_state_dir(self.suite) if state_dir is None else Path(state_dir)
        self._now = now
        self._random_bytes = random_bytes
        self._lookup_budget_seconds = lookup_budget_seconds
        self._budget_seconds = budget_seconds
        if isinstance(refused_retention_days, bool) or not 0 <= refused_retention_days <= REFUSED_RETENTION_DAYS * 2:
            raise ConfigurationError(f"refused_retention_days is 0 to {REFUSED_RETENTION_DAYS * 2}.")
        self._refused_retention = timedelta(days=refused_retention_days)
        pinned = self.suite.pinned
        self._tokens = TokenSource(
            self._key,
            kid=self.suite.kid,
            platform=self.suite.platform,
            service=pinned.service,
            now=now,
            scopes=scopes,
        )
        self._transport = transport or Transport(
            self.suite.url, lambda: f"Bearer {self._tokens.token()}", insecure_http=insecure_http
        )
        self._seen = SeenCheckpoint(self._in_state(CHECKPOINT_FILE), pinned.log_origin, self.suite.log_public)
        self._epochs = Epochs(self.suite, self._in_state(EPOCHS_FILE), self._seen)
        self._blinders: dict[int, Blinder] = {}
        self._snapshots = Snapshots(
            SnapshotCache(self._in_state(SNAPSHOTS_FOLDER)),
            self.suite,
            self._transport,
            self._seen,
            self._hold_listed,
            now,
            budget_seconds,
        )
        self._questions = Questioner(self.suite, random_bytes)
        self._texts = Texts(self._transport)
        self._lock = ForkLock()
        self._checked = False
        self._opened_outbox: Outbox | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **options: Any) -> Self:
        """An instance made of environment variables (`os.environ` unless `environment` is given); `options` are the
        other arguments of the constructor.

        The suite is the file `REFUND_LEDGER_SUITE` or the text `REFUND_LEDGER_SUITE_JSON`, the signing key the file
        `REFUND_LEDGER_KEY` or the PEM text `REFUND_LEDGER_KEY_PEM`, the order key the file `REFUND_LEDGER_ORDER_KEY` or
        its text `REFUND_LEDGER_ORDER_KEY_TEXT`, the state folder `REFUND_LEDGER_STATE`. Raises ConfigurationError,
        which names variables and never repeats what they hold.
        """
        found = read_credentials(os.environ if environment is None else environment)
        named = {"order_key": found.order_key, "state_dir": found.state_dir}
        return cls(found.suite, found.key, **{**named, **options})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def public_keys(self) -> tuple[Ed25519PublicKey, ...]:
        """The platform's public keys under which its reports verify: that of `key` first, then what else the suite file
        names, for reports that were signed under an earlier one."""
        own = self._key.public_key().public_bytes_raw()
        earlier = dict.fromkeys(key.public_key for key in self.suite.keys if key.public_key != own)
        return tuple([Ed25519PublicKey.from_public_bytes(raw) for raw in (own, *earlier)])

    def close(self) -> None:
        """Close connections and files. What waits in the outbox stays there, and is told in a logged warning if this
        client has used the outbox."""
        self._transport.close()
        self._snapshots.close()
        with self._lock:
            if self._opened_outbox is not None:
                _warn_of_waiting(self._opened_outbox, self._now())
                self._opened_outbox.close()
                self._opened_outbox = None

    def connect(self) -> None:
        """Compare the server with the pinned suite, follow a key rotation that its log proves, and open the local
        snapshot if there is one. Done once before anything else is sent; call it at start, so that the first lookup
        does not spend its 300 ms on it. In a process made by `fork()`, it prepares connections of its own.

        Raises ConfigurationError, HolderMismatch, Unavailable, and the errors of a log that proves something else.
        """
        self._transport.open()
        if not self._checked:
            self._snapshots.look()
            self._retrying(self._check_served)
        if not self._epochs.holds(self._epochs.current):
            self._retrying(lambda limit: self._hold(self._epochs.current, limit))

    def current_epoch(self) -> int:
        """The key epoch that new tags are made under. Connects first. Raises what `connect` does."""
        self.connect()
        return self._epochs.current

    # --- key epochs -------------------------------------------------------------------------------------------------

    def _check_served(self, limit: Deadline) -> None:
        """Once: compare the server with what is pinned."""
        if not self._checked:
            self._list(limit)

    def _list(self, limit: Deadline) -> None:
        """Ask the service for its epochs, again after it refused one as stale."""
        answer = self._transport.send("GET", "/v1/suite", limit)
        self._epochs.take(parse_service(answer.json()))
        self._checked = True

    def _hold(self, epoch: int, limit: Deadline) -> None:
        """Have the holders of a listed epoch proven. What is fetched may take longer than `limit`: whoever waits for a
        lookup is answered in time, and what was proven meanwhile serves the next one."""
        self._epochs.hold(epoch, log_fetcher(self._transport, ATTEMPT_SECONDS), limit.left())

    def _hold_listed(self, epoch: int) -> None:
        """As `_hold`, for an epoch that may be newer than what the service listed last."""
        if not self._epochs.holds(epoch):
            self._retrying(self._list)
            self._retrying(lambda limit: self._hold(epoch, limit))

    def _blinder(self, epoch: int) -> Blinder:
        with self._lock:
            found = self._blinders.get(epoch)
            if found is None:
                found = self._blinders[epoch] = Blinder(epoch, self._epochs.holders(epoch), self._random_bytes)
            return found

    def _blind(self, people: Sequence[Canonical], epoch: int, limit: Deadline | None = None) -> list[Buyer]:
        """A buyer for each person under `epoch`, whose holders must be held. With `limit` in one attempt by then."""

        def evaluate(blinded: Sequence[bytes]) -> Any:
            body = {"epoch": epoch, "blinded": [b64url(element) for element in blinded]}
            if limit is not None:
                return self._post("/v1/oprf/evaluate", body, limit).json()
            return self._retrying(lambda attempt: self._post("/v1/oprf/evaluate", body, attempt).json())

        return self._blinder(epoch).buyers(people, evaluate)

    def _tag(self, people: Sequence[Canonical], epoch: int | None = None) -> list[Buyer]:
        """A buyer for each person, with retries, under `epoch` or else the current one, which may change meanwhile.

        Raises StaleEpoch when `epoch` is not evaluated (any more).
        """
        self.connect()
        try:
            return self._tag_once(people, epoch)
        except StaleEpoch:
            self._retrying(self._list)
            return self._tag_once(people, epoch)

    def _tag_once(self, people: Sequence[Canonical], epoch: int | None) -> list[Buyer]:
        wanted = self._epochs.current if epoch is None else epoch
        self._retrying(lambda limit: self._hold(wanted, limit))
        return self._blind(people, wanted)

    # --- requests ---------------------------------------------------------------------------------------------------

    def _post(self, path: str, body: Mapping[str, Any], limit: Deadline) -> Answer:
        content = json.dumps(body, separators=(",", ":")).encode()
        return self._transport.send("POST", path, limit, content=content)

    def _get(self, path: str, parse: Callable[[Any], T], query: Mapping[str, str] | None = None) -> T:
        """What `parse` makes of the answer. Raises AnswerMismatch if it finds that of another question."""
        self.connect()
        return self._retrying(lambda limit: self._transport.send("GET", path, limit, query=query).read(parse))

    def _retrying(self, work: Callable[[Deadline], T]) -> T:
        return self._transport.retrying(self._budget_seconds, work, ATTEMPT_SECONDS)

    def _new_key(self) -> str:
        """An idempotency key that was never used."""
        return f"{self.suite.platform}-{b64url(self._random_bytes(18))}"

    def _outbox(self) -> Outbox:
        with self._lock:
            if self._opened_outbox is None:
                path = self._in_state(OUTBOX_FILE)
                if path is None:
                    raise ConfigurationError(
                        "Reports need a state folder, and no home folder is known: give state_dir (--state-dir, "
                        "REFUND_LEDGER_STATE)."
                    )
                opened = Outbox(path)
                with suppress(ConfigurationError):  # a folder that can only be read: it is told when it is written to
                    opened.expire(self._now(), self._refused_retention)
                self._opened_outbox = opened
            return self._opened_outbox

    def _in_state(self, name: str) -> Path | None:
        return self._state_dir and self._state_dir / name


def _warn_of_waiting(outbox: Outbox, now: datetime) -> None:
    """Log that something still waits. Says how much and how long, not what."""
    with suppress(ConfigurationError):  # a damaged file has been told by whoever used it
        waiting = outbox.waiting()
        pending, parked = waiting["pending"], waiting["parked"]
        age = pending.oldest_age(now)
        if age is not None:
            _log.warning(
                "outbox_pending: %d items wait in the outbox, the oldest for %d s; %d are parked. Call flush_outbox.",
                pending.count,
                age.total_seconds(),
                parked.count,
            )
