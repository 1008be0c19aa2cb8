"""A person's record for machines: their copy of their data, with codes explained and entries that they can check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.core.conduct import Conduct
from ledger.service.appeals.own_record import own_record
from ledger.service.case_texts import conduct_text, grounds_text, outcome_text, state_text, status_text, tier_text
from ledger.service.entry_batch import Context
from ledger.store.subject_sessions import SessionRow

FORMAT = "refund-credit-record/1"


def export(context: Context, weights: Mapping[str, int], session: SessionRow) -> dict[str, Any]:
    """What `own_record` has, with a format, the service, and the codes that occur in words of the session's language.

    An entry's index leads to its commitment in the public log (`/log/tile/entries/N`); the ledger does not hand out the
    salts that open it, because they belong to the reporter's receipt. Raises DatabaseUnavailable.
    """
    record = own_record(context, weights, session)
    return {
        "format": FORMAT,
        "service": context.service,
        "language": session.locale,
        **record,
        "words": _words(record, session.locale),
        "log": {
            "entries": "/log/tile/entries/{index // 256}",
            "checkpoint": "/log/checkpoint",
            "note": "Every report, dispute, resolution and statement here is an entry of the public log, by its index.",
        },
    }


def _words(record: Mapping[str, Any], locale: str) -> dict[str, dict[str, str]]:
    reports = record["reports"]
    cases = [one["case"] for one in reports if one["case"] is not None]
    outcomes = {case["decision"]["outcome"] for case in cases if case["decision"] is not None}
    return {
        "tier": {record["standing"]["tier"]: tier_text(record["standing"]["tier"], locale)},
        "conduct": {one.value: conduct_text(one, locale) for one in Conduct},
        "status": {one["status"]: status_text(one["status"], locale) for one in reports},
        "grounds": {case["grounds"]: grounds_text(case["grounds"], locale) for case in cases},
        "state": {case["state"]: state_text(case["state"], locale) for case in cases},
        "outcome": {one: outcome_text(one, locale) for one in sorted(outcomes)},
    }
