"""A person's own record: what is in the ledger under the identifiers of their session, who looked, and who found a
picture of a report again.

The platform that opened the session is named where it reported or asked; all others read "another member" (None here):
no platform may learn through a customer who else reported, and the person learns as much as law asks for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from ledger.core.appeals import CaseState
from ledger.core.conduct import Conduct, EvidenceType
from ledger.core.encoding import day_floor, format_time, from_day, from_hour
from ledger.core.findings import SIGNED, Trust, weakest
from ledger.core.identifiers import Kind
from ledger.core.ids import encode_id
from ledger.core.policy import Policy
from ledger.core.reasons import reason_text
from ledger.core.standing import Event, fold, merge
from ledger.service.appeals.case_letters import letters_of
from ledger.service.appeals.parties import Party
from ledger.service.appeals.views import case_view
from ledger.service.case_texts import amount_band
from ledger.service.entry_batch import Context
from ledger.service.lookups import listing_event
from ledger.service.report_views import report_status
from ledger.store import appeals as store
from ledger.store import former_labels, subject_sessions
from ledger.store import log as log_store
from ledger.store import lookups as lookup_store
from ledger.store import pictures as picture_store
from ledger.store import reports as report_store
from ledger.store.appeals import CaseRow, StatementRow
from ledger.store.engine import snapshot_reading
from ledger.store.reports import ReportRow, ReversalRow
from ledger.store.subject_sessions import SessionRow

MAX_LOOKUPS = 500
"""Lookups shown, the newest ones; and as many searches for pictures."""

MAX_STATEMENTS = 5
"""How often a person may word their statement on a report anew."""


def own_record(context: Context, weights: Mapping[str, int], session: SessionRow) -> dict[str, Any]:
    """{as_of, opened_by, standing, reports, lookups, picture_searches}: everything, for the page and the export alike.

    Raises DatabaseUnavailable.
    """
    tags = [tag for _, tag in session.subjects]
    now, policy = context.now(), context.policy
    with snapshot_reading(context.engine) as connection:
        listings = lookup_store.listings(connection, tags)
        matched = store.reports_of_tags(connection, tags)
        reports = report_store.reports_by_id(connection, matched)
        reversals = report_store.reversals(connection, matched)
        cases = store.cases_of_reports(connection, matched)
        statements = store.statements(connection, matched)
        flags = report_store.listing_flags(connection, matched)
        restituted = report_store.restitutions(connection, matched)
        seen = subject_sessions.lookups_of(connection, tags, MAX_LOOKUPS)
        searches = picture_store.searches_of(connection, matched, MAX_LOOKUPS)
        kinds = {tag: kind for kind, tag in session.subjects}
        former = former_labels.among(connection, matched)
        shown = []
        for row in sorted(reports.values(), key=lambda one: one.id, reverse=True):
            case = cases.get(row.id)
            one = _report(row, reversals.get(row.id), case, flags.get(row.id, (False, False)), context)
            one |= {
                "reported_by": _named(row.platform, session),
                **_evidence(connection, row.id),
                "former_label": row.id in former,
                "matched_kinds": sorted({kinds[tag] for tag in matched[row.id] if tag in kinds}),
                "restituted": row.id in restituted,
                "statement": _statement(statements.get(row.id)),
                "case": None if case is None else subject_case_view(connection, case, context.service),
            }
            shown.append(one)
    events = [
        listing_event(row, Kind(kind))
        for kind, tag in session.subjects
        for row in listings.get(tag, ())
        if row.kind == kind
    ]
    return {
        "as_of": format_time(now),
        "opened_by": session.platform,
        "standing": _standing(events, weights, policy, now),
        "reports": shown,
        "lookups": [
            {
                "asked_at": format_time(row.asked_at),
                "asked_by": _named(row.platform, session),
                "purpose": row.purpose,
                "claim": row.claim,
                "tier": None if row.tier == "none" else row.tier,
            }
            for row in seen
        ],
        "picture_searches": [
            {
                "asked_at": format_time(search.asked_at),
                "asked_by": _named(search.platform, session),
                "reports": [encode_id("rp", report, context.service) for report in search.reports],
            }
            for search in searches
        ],
    }


def _report(
    row: ReportRow, reversal: ReversalRow | None, case: CaseRow | None, flags: tuple[bool, bool], context: Context
) -> dict[str, Any]:
    policy, now = context.policy, context.now()
    conduct = row.conduct if case is None else case.current_conduct
    expires_day = policy.expiry_day(Conduct(conduct), day_floor(row.act_ended_at), row.expires_day)
    low, high = amount_band(row.amount_minor, row.currency)
    status = report_status(row, reversal, policy, now, disputed=flags[0], unconfirmed=flags[1])
    appealable = row.live and case is None and expires_day > day_floor(now)
    return {
        "id": encode_id("rp", row.id, context.service),
        "conduct": conduct,
        "reported_conduct": row.conduct,
        "status": status.value,
        "act_date": format_time(row.act_ended_at)[:10],
        "told_date": format_time(row.notice_sent_at)[:10],
        "recorded_at": format_time(row.recorded_at),
        "effective_from": format_time(from_hour(row.effective_hour)),
        "expires_at": format_time(from_day(expires_day)),
        "amount_band": {"low": low, "high": high, "currency": row.currency},
        "outcome": row.outcome,
        "appealable": appealable,
        "entry_index": row.id,
    }


def _standing(events: Iterable[Event], weights: Mapping[str, int], policy: Policy, now: datetime) -> dict[str, Any]:
    standing = fold(merge(events), weights, policy, now)
    return {
        "tier": standing.tier.value,
        "credit": standing.credit,
        "points": standing.points,
        "events": standing.events,
        "reporters": standing.reporters,
        "disputed": standing.disputed,
        "protected": standing.protected,
        "reasons": [
            {"code": reason.value, "en": reason_text(reason, "en"), "zh_cn": reason_text(reason, "zh-CN")}
            for reason in standing.reasons
        ],
        "policy": policy.version,
    }


def _named(platform: str, session: SessionRow) -> str | None:
    return platform if platform == session.platform else None


def _evidence(connection: Connection, report_id: int) -> dict[str, Any]:
    """Types of the evidence in the order of the report, where its original files came from, and what inspections found
    in it, each code once, with the weakest trust in a signer that it rests on; none once the body is erased."""
    items = reported_evidence(connection, report_id)
    trusts: dict[str, list[str | None]] = {}
    for item in items:
        inspection = item.get("inspection", {})
        for code in inspection.get("findings", ()):
            trusts.setdefault(code, []).append(inspection.get("trust"))
    return {
        "evidence": [str(item["type"]) for item in items],
        "origins": [_origin(item) for item in items if item["type"] == EvidenceType.ORIGINAL_FILE],
        "confirmations": [_confirmation(item["confirmation"]) for item in items if "confirmation" in item],
        "findings": sorted(trusts),
        "trust": {code: _weakest(told) for code, told in sorted(trusts.items()) if code in SIGNED},
    }


def _origin(item: Mapping[str, Any]) -> dict[str, Any]:
    """Where an original file came from; a source of None where its report was made before that was asked."""
    origin = item.get("origin", {})
    return {"source": origin.get("source"), "received_at": origin.get("received_at")}


def _confirmation(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: told[name] for name in ("issuer", "answered_at", "verdict")}


def _weakest(told: Iterable[str | None]) -> str | None:
    found = [None if one is None else Trust(one) for one in told]
    trust = None if None in found else weakest(one for one in found if one is not None)
    return None if trust is None else trust.value


def reported_evidence(connection: Connection, report_id: int) -> list[dict[str, Any]]:
    """The items of evidence as the report's signed body names them."""
    opened = log_store.read_body(connection, report_id)
    if opened is None:
        return []
    return list(json.loads(opened[2])["body"]["evidence"])


def _statement(row: StatementRow | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {"text": row.text, "locale": row.locale, "made_at": format_time(row.made_at), "entry_index": row.entry_index}


def subject_case_view(connection: Connection, row: CaseRow, service: str) -> dict[str, Any]:
    """The case as the person sees it, with what they can still do and the letters that there are."""
    view = case_view(connection, row, Party.SUBJECT, service)
    view["can_withdraw"] = row.state not in (CaseState.DECIDED, CaseState.CLOSED, CaseState.WITHDRAWN)
    view["letters"] = [kind.value for kind in letters_of(row)]
    view["can_reopen"] = row.reopen_until is not None and row.state in (CaseState.DECIDED, CaseState.WITHDRAWN)
    return view
