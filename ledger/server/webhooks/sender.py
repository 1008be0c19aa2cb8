"""The thread that sends: it takes what is due, a few deliveries at a time, and records what became of them.

Every API process runs one. A delivery is claimed in a short transaction, sent outside any, and recorded in another one;
when a process dies in between, the claim runs out after `CLAIM_SECONDS` and another process sends it again. Each
endpoint has at most one attempt in the air in a process, so a slow one holds up nobody but itself.
"""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx2
from sqlalchemy import Connection, Engine

from ledger.errors import LedgerError
from ledger.protocol.public_ids import encode_id
from ledger.rules.webhooks import RETRY_SCHEDULE, DeliveryState, next_wait, signature_header
from ledger.server.db.engine import reading, writing
from ledger.server.keys.sealing import unseal
from ledger.server.process.supervision import Worker
from ledger.server.settings import Settings
from ledger.server.webhooks import queries as store
from ledger.server.webhooks.attempt import (
    TIMEOUT_SECONDS,
    AttemptConnection,
    AttemptOutcome,
    DeliveryFailure,
    Resolve,
    Sending,
    attempt,
    resolve,
)
from ledger.server.webhooks.queries import ClaimedDelivery

CLAIM_SECONDS = 60
"""How long a delivery is one sender's: an attempt's 15 s, a slow resolver, and the record."""

AT_ONCE = 16
"""Attempts in the air in one process."""

LOOK_SECONDS = 1.0
"""How often it looks what is due."""

PATIENCE_SECONDS = 60.0
"""How long taking may fail or hang before the process says so."""

CLOSE_SECONDS = 2.0
"""How long attempts in the air may go on when the process stops; what is cut off is another process's at once."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Flight:
    """An attempt in the air."""

    thread: threading.Thread
    line: AttemptConnection


class Sender:
    """See the module. `now` is the wall clock; `schedule`, `jitter` and the times are arguments for tests."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        sealing_key: bytes,
        now: Callable[[], datetime],
        *,
        schedule: Sequence[timedelta] = RETRY_SCHEDULE,
        jitter: Callable[[], float] = random.random,
        timeout_seconds: float = TIMEOUT_SECONDS,
        look_seconds: float = LOOK_SECONDS,
        at_once: int = AT_ONCE,
        tls: ssl.SSLContext | None = None,
        resolve: Resolve = resolve,
    ) -> None:
        self._settings, self._engine, self._sealing_key, self._now = settings, engine, sealing_key, now
        self._schedule, self._jitter, self._resolve = schedule, jitter, resolve
        self._timeout_seconds, self._look_seconds, self._at_once = timeout_seconds, look_seconds, at_once
        self._tls = tls
        self._flying: dict[int, _Flight] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self.worker = Worker(
            "webhooks", self._turn, seconds=look_seconds, patience_seconds=PATIENCE_SECONDS, wake=self._wake
        )

    def start(self) -> Sender:
        """Send what is due from now on, until `close`."""
        self.worker.start()
        return self

    def close(self, grace_seconds: float = CLOSE_SECONDS, timeout_seconds: float | None = None) -> None:
        """Take nothing more, give what is in the air a moment, and give the rest back. `timeout_seconds` is for the
        thread that takes: it may hang in the database."""
        self._stopping = True
        self.worker.close(timeout_seconds)
        end = time.monotonic() + grace_seconds
        for flight in self._flights():
            flight.thread.join(max(0.0, end - time.monotonic()))
        for flight in self._flights():
            flight.line.cut()
        for flight in self._flights():
            flight.thread.join(CLOSE_SECONDS)  # a resolver cannot be interrupted: its claim runs out by itself

    def round(self) -> int:
        """Send what is due now, and wait for it; how many attempts that were. For who has not called `start`."""
        attempts = 0
        while True:
            self._wake.clear()
            flying = self._flights()
            self._cut_overdue()
            taken = self._take()
            if not taken and not flying:
                return attempts
            attempts += taken
            self._wake.wait(self._look_seconds)

    def _turn(self) -> None:
        self._cut_overdue()
        self._take()

    def _flights(self) -> list[_Flight]:
        with self._lock:
            return list(self._flying.values())

    def _cut_overdue(self) -> None:
        for flight in self._flights():
            if flight.line.left() <= 0:
                flight.line.cut()

    # --- taking ---------------------------------------------------------------------------------------------------

    def _take(self) -> int:
        """Claim what is due and let it fly; how many. Raises DatabaseUnavailable."""
        with self._lock:
            busy = list(self._flying)
        free = self._at_once - len(busy)
        if free <= 0:
            return 0
        now = self._now()
        with reading(self._engine) as connection:  # a look takes no lock: most find nothing
            if not store.any_due(connection, now, busy):
                return 0
        with writing(self._engine) as connection:
            claims = store.claim_due(connection, now, now + timedelta(seconds=CLAIM_SECONDS), busy, free)
        for claim in claims:
            line = AttemptConnection(self._timeout_seconds)
            thread = threading.Thread(target=self._fly, args=(claim, line), name="webhook", daemon=True)
            with self._lock:
                self._flying[claim.endpoint.id] = _Flight(thread, line)
            try:
                thread.start()
            except RuntimeError:  # no thread can be started now: the claim runs out, and the endpoint stays free
                log.exception("webhook_not_sent")
                with self._lock:
                    self._flying.pop(claim.endpoint.id, None)
                line.close()
        return len(claims)

    # --- sending --------------------------------------------------------------------------------------------------

    def _fly(self, claim: ClaimedDelivery, line: AttemptConnection) -> None:
        try:
            outcome = self._attempt(claim, line)
            with writing(self._engine) as connection:
                if line.was_cut and self._stopping and outcome.failure is not None:
                    store.release(connection, claim)
                else:
                    record(connection, claim, outcome, self._now(), self._schedule, self._jitter())
        except LedgerError as error:  # it is sent again when the claim has run out
            log.warning("webhook_not_recorded", extra={"code": error.code})
        except Exception:
            log.exception("webhook_not_recorded")
        finally:
            line.close()
            with self._lock:
                self._flying.pop(claim.endpoint.id, None)
            self._wake.set()

    def _attempt(self, claim: ClaimedDelivery, line: AttemptConnection) -> AttemptOutcome:
        now = self._now()
        try:
            message_id = encode_id("wm", claim.message_id, self._settings.service)
            body, timestamp = claim.body.encode(), int(now.timestamp())
            signatures = signature_header(self._secrets(claim, now), message_id, timestamp, body)
            sending = Sending(claim.endpoint.url, message_id, timestamp, signatures, body)
            tls = self._context()
            return attempt(
                sending, line, tls, now, allow_private=self._settings.webhook_allow_private, resolve=self._resolve
            )
        except Exception:
            log.exception("webhook_attempt_failed")
            return AttemptOutcome(None, DeliveryFailure.INTERNAL)

    def _secrets(self, claim: ClaimedDelivery, now: datetime) -> list[bytes]:
        """The endpoint's secret, and the one before while a rotation lasts. Raises ConfigurationError."""
        endpoint = claim.endpoint
        sealed = [endpoint.secret]
        if endpoint.previous_secret is not None and endpoint.previous_until is not None:
            sealed += [endpoint.previous_secret] if now < endpoint.previous_until else []
        return [unseal(self._sealing_key, f"webhook:{endpoint.id}", one) for one in sealed]

    def _context(self) -> ssl.SSLContext:
        """Made at the first attempt: reading the certificates of authorities takes a while, and many never send."""
        with self._lock:
            if self._tls is None:
                self._tls = httpx2.create_ssl_context()
            return self._tls


def record(
    connection: Connection,
    claim: ClaimedDelivery,
    outcome: AttemptOutcome,
    now: datetime,
    schedule: Sequence[timedelta],
    jitter: float,
) -> None:
    """Write down what became of an attempt: delivered, to be tried again, failed for good, or nobody is there."""
    if outcome.failure is None and outcome.status is not None:
        store.set_delivered(connection, claim, outcome.status, now)
        return
    failure = outcome.failure or DeliveryFailure.INTERNAL
    if failure is DeliveryFailure.GONE:  # in the order in which everybody locks: endpoint, then deliveries
        store.lock_endpoint(connection, claim.endpoint.platform, claim.endpoint.id)
    wait = next_wait(claim.attempts + 1, jitter, outcome.retry_after, schedule)
    if failure is DeliveryFailure.GONE:
        state = DeliveryState.CANCELLED
    elif wait is None:
        state = DeliveryState.FAILED
    else:
        state = DeliveryState.PENDING
    next_at = now if wait is None else now + wait
    mine = store.set_undelivered(
        connection, claim, state=state, next_at=next_at, status=outcome.status, error=failure.value, now=now
    )
    if mine and failure is DeliveryFailure.GONE:
        store.set_status(connection, claim.endpoint.id, store.DISABLED, failure.value)
        store.cancel_pending(connection, claim.endpoint.id)
        log.info("webhook_endpoint_disabled", extra={"platform": claim.endpoint.platform})
