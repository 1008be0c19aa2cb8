"""What must happen by itself: the clocks of appeals, erasing what is due, forgetting old idempotency answers, records
of lookups and webhooks, ending a key rotation whose grace is over, counting tags by tier once a day.

Every API process runs it; two at once do no harm (the log's head serialises them, and what one erased the other no
longer finds). Nothing here decides anything about a person beyond what policy already said.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta

from ledger.errors import LedgerError
from ledger.service.appeals.attempts import forget_counts
from ledger.service.appeals.clock import run_clocks
from ledger.service.appeals.sessions import forget_sessions
from ledger.service.appeals.weights import refresh_weights
from ledger.service.attachments import sweep
from ledger.service.disclosures import count_crowded, count_old
from ledger.service.entry_batch import Context
from ledger.service.erasure import erase_due, forget_answers, forget_disclosures
from ledger.service.held import void_due
from ledger.service.intake import IDEMPOTENCY_HOURS
from ledger.service.malformed import START, take_back_malformed
from ledger.service.pictures import Pictures
from ledger.service.pictures import forget_searches as forget_picture_searches
from ledger.service.rotation.retire import finish_due
from ledger.service.tag_standings import record_daily_tiers
from ledger.service.webhooks import emit as webhooks
from ledger.settings import Settings

log = logging.getLogger(__name__)


class Maintenance:
    """A thread that does one round when it is started, and then at intervals (see `_run`)."""

    def __init__(self, settings: Settings, context: Context, pictures: Pictures) -> None:
        self._settings, self._context, self._pictures = settings, context, pictures
        self._engine, self._now = context.engine, context.now
        self._checked_to = START
        """The last report whose elements were looked at: newer ones are checked when they come in."""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> Maintenance:
        """Begin the rounds."""
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop after the round that runs."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def round(self) -> int:
        """One round; returns how many reports were erased. The clocks of appeals come first: what they do to a case may
        let its report go."""
        self.clocks()
        self._checked_to, _ = take_back_malformed(self._context, self._checked_to, self._stop.is_set)
        erased = 0
        while not self._stop.is_set():
            count = erase_due(self._context, self._settings)
            if count == 0:
                break
            erased += count
        while not self._stop.is_set() and count_old(self._engine, self._now()):
            pass
        if not self._stop.is_set():
            count_crowded(self._engine, whole=True)
        while not self._stop.is_set() and forget_disclosures(self._engine, self._now()):
            pass
        while not self._stop.is_set() and forget_picture_searches(self._engine, self._now()):
            pass
        self._pictures.refresh()
        while not self._stop.is_set() and forget_sessions(self._engine, self._now()):
            pass
        forget_counts(self._engine, self._now())
        sweep(self._engine, self._settings, self._now())
        while not self._stop.is_set() and webhooks.forget(self._engine, self._now()):
            pass
        forget_answers(self._engine, self._now() - timedelta(hours=IDEMPOTENCY_HOURS))
        if not self._stop.is_set():
            finish_due(self._settings, self._engine, self._now)
        if not self._stop.is_set():
            record_daily_tiers(self._engine, self._context.policy, self._now())
        return erased

    def clocks(self) -> int:
        """Let time do to appeals what is due, and count lookups where one identifier has very many; returns in how many
        cases something happened."""
        changed = 0
        while not self._stop.is_set() and (done := run_clocks(self._context)):
            changed += done
        while not self._stop.is_set() and void_due(self._context):
            pass
        if not self._stop.is_set():
            refresh_weights(self._engine, self._context.policy, self._now())
        if not self._stop.is_set():
            count_crowded(self._engine, whole=False)
        return changed

    def _run(self) -> None:
        """Clocks of appeals every `appeal_clock_seconds`, everything else every `maintenance_interval_seconds`."""
        round_at = time.monotonic()
        while not self._stop.is_set():
            whole = time.monotonic() >= round_at
            if whole:
                round_at = time.monotonic() + self._settings.maintenance_interval_seconds
            try:
                if whole:
                    erased = self.round()
                    if erased:
                        log.info("reports_erased", extra={"reports": erased})
                else:
                    self.clocks()
            except LedgerError as error:
                log.warning("maintenance_postponed", extra={"code": error.code})
            except Exception:
                log.exception("maintenance_failed")
            until_round = max(0.0, round_at - time.monotonic())
            self._stop.wait(min(self._settings.appeal_clock_seconds, until_round))
