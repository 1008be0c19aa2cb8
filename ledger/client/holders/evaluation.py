"""GroupEvaluation by t of n key holders: all are asked at once and directly, and the first t valid shares count.

A holder that is slow, silent, refuses or lies costs the answer nothing as long as t others answer: it is named in a log
event (`holder_failed`) and counted, and its share is not used. Shares are verified as they arrive, in the threads that
fetched them; not more than t of them, unless one is false.
"""

from __future__ import annotations

import contextvars
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ledger.client.holders.answers import holder_share
from ledger.client.holders.connection import HolderConnection
from ledger.client.transport.budgets import Deadline
from ledger.client.transport.event_log import log_event
from ledger.client.transport.forks import ForkLock
from ledger.client.transport.http import worth_retrying
from ledger.errors import (
    HolderMismatch,
    InvalidProof,
    LedgerError,
    ProofError,
    QuotaExceeded,
    StaleEpoch,
    StaleGeneration,
    Unavailable,
    UnexpectedAnswer,
)
from ledger.protocol.encoding import b64url
from ledger.protocol.threshold import HolderKey, KeySet, VerifiedShare

EVALUATE_PATH = "/v1/oprf/evaluate"
RETRY_FIRST_SECONDS = 0.1
RETRY_LONGEST_SECONDS = 2.0
_GATEWAY_REASONS = frozenset({"proxy_answer", "proxy_failed"})
"""Reasons that the SDK gives for an answer with a status that the holder did not send itself."""

Connect = Callable[[HolderKey], HolderConnection]
"""Returns the connection to a holder. Raises ConfigurationError, Unavailable."""


class HolderFailures:
    """Counts how often each holder failed, by holder and reason, since it was made. Thread-safe."""

    def __init__(self) -> None:
        self._lock = ForkLock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, holder: str, reason: str) -> None:
        """Count one failure."""
        with self._lock:
            self._counts[holder, reason] += 1

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Return the numbers of failures by reason, by holder."""
        with self._lock:
            counted = dict(self._counts)
        failures: dict[str, dict[str, int]] = {}
        for (holder, reason), count in sorted(counted.items()):
            failures.setdefault(holder, {})[reason] = count
        return failures


@dataclass(frozen=True, slots=True)
class Attempts:
    """The time of an evaluation: `limit` for all of it, `attempt_seconds` for each request of it, and whether a holder
    that failed for a reason that passes is asked again."""

    limit: Deadline
    attempt_seconds: float
    again: bool


class GroupEvaluation:
    """One evaluation of a batch by all holders of a key set, which runs from its making on."""

    def __init__(
        self,
        epoch: int,
        keys: KeySet,
        blinded: Sequence[bytes],
        attempts: Attempts,
        connect: Connect,
        failures: HolderFailures,
    ) -> None:
        self._epoch = epoch
        self.keys = keys
        self._blinded = blinded
        self._attempts = attempts
        self._failures = failures
        self._changed = threading.Condition(threading.Lock())
        self._valid: list[VerifiedShare] = []
        self._verifying: set[str] = set()
        self._waiting: list[tuple[HolderKey, object]] = []
        self._open = {holder.holder for holder in keys.holders}
        self._failed: dict[str, LedgerError] = {}
        self._over = False
        body = {"epoch": epoch, "generation": keys.generation, "blinded": [b64url(element) for element in blinded]}
        self._content = json.dumps(body, separators=(",", ":")).encode()
        for holder in keys.holders:
            try:
                connection = connect(holder)
                context = contextvars.copy_context()
                connection.start(partial(context.run, self._ask, holder, connection))
            except LedgerError as error:
                self._note(holder, error)
                self._end(holder)

    def shares(self) -> list[VerifiedShare]:
        """Return the shares of as many holders as the threshold, once they are there and verified.

        When the holders left are fewer than that: raises StaleGeneration or StaleEpoch (holders use other shares than
        these), QuotaExceeded or InvalidProof (of too many of them), the error of their refusal, else Unavailable. The
        reasons of all holders that failed are in `holders` of the details.
        """
        threshold = self.keys.threshold
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._valid) >= threshold or len(self._valid) + len(self._open) < threshold,
                self._attempts.limit.left(),
            )
            self._over = True
            self._changed.notify_all()  # who pauses between two attempts ends
            if len(self._valid) >= threshold:
                return self._valid[:threshold]
            failed = dict(self._failed)
            in_time = self._attempts.limit.left() > 0
            unanswered = [] if in_time else [name for name in sorted(self._open) if name not in failed]
        raise self._failure(failed, unanswered)

    def _failure(self, failed: Mapping[str, LedgerError], unanswered: Sequence[str]) -> LedgerError:
        """Return the error of an evaluation for which too few holders gave a valid share."""
        reasons = {name: reason_of(error) for name, error in failed.items()} | dict.fromkeys(unanswered, "timeout")
        spare = len(self.keys.holders) - self.keys.threshold
        words = ", ".join([f"{name}: {reason}" for name, reason in sorted(reasons.items())])
        text = f"{len(reasons)} of {len(self.keys.holders)} key holders gave no share ({words})."
        if "not_admitted" in reasons.values():
            text += " Send your public key to each holder that answered not_admitted, and have it admit your platform."
        if "quota_exceeded" in reasons.values():
            text += " The holders that answered quota_exceeded can grant more elements (`holder grant`)."
        details: dict[str, object] = {"holders": reasons}
        for kind in (StaleGeneration, StaleEpoch, QuotaExceeded, InvalidProof):
            errors = [error for error in failed.values() if isinstance(error, kind)]
            if len(errors) > spare or (errors and kind in (StaleGeneration, StaleEpoch)):
                longest = max(errors, key=lambda error: _seconds(error.details.get("retry_after_seconds")))
                return kind(text, **{**longest.details, **details})
        final = [error for error in failed.values() if not worth_retrying(error)]
        if len(final) > spare:
            kinds = Counter([type(error) for error in final])
            chosen = max(final, key=lambda error: (isinstance(error, ProofError), kinds[type(error)]))
            return type(chosen)(f"{text} {chosen}", **{**chosen.details, **details})
        seconds = [_seconds(error.details.get("retry_after_seconds")) for error in failed.values()]
        if any(seconds):
            details["retry_after_seconds"] = int(max(seconds))
        details["reason"] = "timeout" if "timeout" in reasons.values() else "holders"
        return Unavailable(text, **details)

    # --- in the threads of the holders ------------------------------------------------------------------------------

    def _ask(self, holder: HolderKey, connection: HolderConnection) -> None:
        """Have one holder evaluate, and verify its share if it is needed."""
        limit, pause = self._attempts.limit, RETRY_FIRST_SECONDS
        try:
            while not self._over:
                try:
                    answer = connection.post(
                        EVALUATE_PATH, self._content, Deadline(min(limit.left(), self._attempts.attempt_seconds))
                    )
                    self._take(holder, answer)
                    return
                except LedgerError as error:
                    self._note(holder, error)
                    pause = max(pause, _seconds(error.details.get("retry_after_seconds")))
                    if not self._attempts.again or not worth_retrying(error) or pause >= limit.left():
                        return
                    with self._changed:
                        self._changed.wait_for(lambda: self._over, pause)
                    pause = min(2 * pause, RETRY_LONGEST_SECONDS)
        finally:
            self._end(holder)

    def _take(self, holder: HolderKey, answer: object) -> None:
        """Verify an answer, or keep it for the case that one of those which came before is false."""
        with self._changed:
            self._waiting.append((holder, answer))
        while True:
            with self._changed:
                needed = not self._over and len(self._valid) + len(self._verifying) < self.keys.threshold
                if not needed or not self._waiting:
                    return
                holder, answer = self._waiting.pop(0)
                self._verifying.add(holder.holder)
            share, error = self._verified(holder, answer)
            if error is not None:
                self._note(holder, error)  # before the holder counts as done: `shares` may end then, with all failures
            with self._changed:
                self._verifying.discard(holder.holder)
                if share is not None:
                    self._valid.append(share)
                    self._failed.pop(holder.holder, None)
                self._open.discard(holder.holder)
                self._changed.notify_all()

    def _verified(self, holder: HolderKey, answer: object) -> tuple[VerifiedShare | None, LedgerError | None]:
        try:
            return holder_share(answer, self._epoch, self.keys, holder.index, self._blinded), None
        except LedgerError as error:
            return None, error

    def _note(self, holder: HolderKey, error: LedgerError) -> None:
        """Record, count and log a failure of a holder."""
        with self._changed:
            self._failed[holder.holder] = error
        note_failure(self._failures, holder.holder, error)

    def _end(self, holder: HolderKey) -> None:
        """Record that a holder will not answer any more. Its answer may still wait for being verified, or be verified
        now by another thread."""
        with self._changed:
            waits = any(waiting is holder for waiting, _ in self._waiting)
            if not waits and holder.holder not in self._verifying:
                self._open.discard(holder.holder)
            self._changed.notify_all()


def note_failure(failures: HolderFailures, holder: str, error: LedgerError) -> None:
    """Count a failure of a holder, and log it as `holder_failed`."""
    reason = reason_of(error)
    request_id = error.details.get("request_id")
    failures.add(holder, reason)
    log_event(
        "holder_failed",
        holder=holder,
        reason=reason,
        request_id=request_id if isinstance(request_id, str) else None,
    )


def reason_of(error: LedgerError) -> str:
    """Return the word for a holder's failure in log events: `timeout`, `malformed`, `wrong_generation`,
    `invalid_proof`, a reason for which it could not be reached (`connect`, `dns_failed`, `tls_failed`, ...), or the
    code of its refusal."""
    if isinstance(error, UnexpectedAnswer):
        return "malformed"
    if isinstance(error, HolderMismatch):
        return "wrong_generation"
    if isinstance(error, ProofError):
        return error.code
    reason = error.details.get("reason")
    # A refusal's own `reason` is the holder's text: it could be anything, and another one each time.
    own = "status" not in error.details or reason in _GATEWAY_REASONS
    return reason if isinstance(error, Unavailable) and isinstance(reason, str) and own else error.code


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int) else 0.0
