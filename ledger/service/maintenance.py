"""What must happen by itself: erasing what is due, forgetting old idempotency answers, records of lookups and
webhooks, ending a key rotation whose grace is over.

Every API process runs it; two at once do no harm (the log's head serialises them, and what one erased the other no
longer finds). Nothing here decides anything about a person beyond what policy already said.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Engine

from ledger.core.entries import SALT_BYTES
from ledger.core.policy import Policy
from ledger.errors import LedgerError
from ledger.service.erasure import erase_due, forget_answers, forget_disclosures
from ledger.service.intake import IDEMPOTENCY_HOURS
from ledger.service.rotation.retire import finish_due
from ledger.service.webhooks import emit as webhooks
from ledger.settings import Settings

log = logging.getLogger(__name__)


class Maintenance:
    """A thread that does one round at start and then every `interval_seconds`."""

    def __init__(self, settings: Settings, engine: Engine, policy: Policy, now: Callable[[], datetime]) -> None:
        self._settings, self._engine, self._policy, self._now = settings, engine, policy, now
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the round that runs."""
        self._stop.set()
        self._thread.join()

    def round(self) -> int:
        """One round; returns how many reports were erased."""
        erased = 0
        while not self._stop.is_set():
            count = erase_due(
                self._engine,
                self._policy,
                self._settings.service,
                self._now(),
                lambda: secrets.token_bytes(SALT_BYTES),
            )
            if count == 0:
                break
            erased += count
        while not self._stop.is_set() and forget_disclosures(self._engine, self._now()):
            pass
        while not self._stop.is_set() and webhooks.forget(self._engine, self._now()):
            pass
        forget_answers(self._engine, self._now() - timedelta(hours=IDEMPOTENCY_HOURS))
        if not self._stop.is_set():
            finish_due(self._settings, self._engine, self._now)
        return erased

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                erased = self.round()
                if erased:
                    log.info("reports_erased", extra={"reports": erased})
            except LedgerError as error:
                log.warning("maintenance_postponed", extra={"code": error.code})
            except Exception:
                log.exception("maintenance_failed")
            self._stop.wait(self._settings.maintenance_interval_seconds)
