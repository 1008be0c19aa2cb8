"""Texts of reason codes: from this version's own catalogue, and for a code that a newer ledger has added, from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from ledger.client.lookups.reasons import Reason
from ledger.client.transport.budgets import Deadline
from ledger.client.transport.http import Transport
from ledger.client.transport.problems import plain
from ledger.errors import LedgerError, NotFound
from ledger.rules.languages import LOCALES
from ledger.rules.reasons import Reason as KnownReason

RETRY_SECONDS = 60.0
"""After a failure, no answer waits for texts during this time."""
_KNOWN = frozenset(KnownReason)


class ReasonTexts:
    """Fetches and stores the service's texts of codes that this version does not know. Thread-safe."""

    def __init__(self, transport: Transport, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._transport = transport
        self._monotonic = monotonic
        self._not_before = 0.0
        self._texts: dict[str, dict[str, str]] = {}
        self._asked_for: frozenset[str] = frozenset()

    def lacks(self, codes: Iterable[str]) -> bool:
        """True if the service should be asked about a code among them."""
        unknown = any(code not in _KNOWN and code not in self._asked_for for code in codes)
        return unknown and self._monotonic() >= self._not_before

    def fetch(self, codes: Iterable[str], limit: Deadline) -> None:
        """Fetch the service's texts, because of `codes`. After a failure, a code without a text is shown itself, and an
        answer with it makes another request a minute later."""
        texts: dict[str, dict[str, str]] = {}
        for locale in LOCALES:
            try:
                answer = self._transport.send("GET", f"/v1/texts/{locale}", limit).json()
            except LedgerError as error:
                if isinstance(error, NotFound) and texts:  # every ledger has English, an older one not each language
                    continue
                self._not_before = self._monotonic() + RETRY_SECONDS
                return
            own = isinstance(answer, dict) and answer.get("locale") == locale
            members = answer.get("reasons") if own else None
            texts[locale] = {str(code): text for code, text in members.items()} if isinstance(members, dict) else {}
        self._texts = texts
        self._asked_for |= frozenset(codes)

    def reasons(self, reasons: Sequence[Reason]) -> tuple[Reason, ...]:
        """Return the same reasons, with texts for those codes that the service has explained."""
        return tuple([reason if reason.code in _KNOWN else self._with_texts(reason) for reason in reasons])

    def _with_texts(self, reason: Reason) -> Reason:
        texts = [self._texts.get(locale, {}).get(reason.code) for locale in LOCALES]
        own = zip(texts, reason.texts(), strict=True)
        return Reason(reason.code, *[plain(text) if isinstance(text, str) and text else known for text, known in own])
