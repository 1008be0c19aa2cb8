"""Everything about a person in one document that programs can read (PIPL art. 45, GDPR arts. 15 and 20, 15 U.S.C.
1681g): the record with whole cases, what its codes mean, and how to check it against the public log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger import code_names as case_texts
from ledger.evidence import finding_texts
from ledger.i18n import texts
from ledger.protocol.encoding import format_time
from ledger.protocol.identifiers import Kind
from ledger.rules.appeals import Action, Actor, CaseState, Grounds, Outcome
from ledger.rules.conduct import Conduct, EvidenceType
from ledger.rules.findings import FindingCode, Trust
from ledger.rules.reports import Status
from ledger.rules.standing import Tier
from ledger.server.appeals import record_texts
from ledger.server.appeals.own_record import own_record
from ledger.server.appeals.session_queries import SessionRow
from ledger.server.records.transaction import Context

FORMAT = "refund-credit-record/1"


def export(
    context: Context,
    weights: Mapping[str, int],
    session: SessionRow,
    origin: str,
    log_key: str,
    locale: str,
    prefix: str = "",
) -> dict[str, Any]:
    """{format, service, session, record, meanings, verify}: `own_record` and what it takes to understand and check it.

    `meanings` are in `locale`, and the log's paths begin with `prefix`, that of the service.
    Files are named with their SHA-256 and read one by one. Raises DatabaseUnavailable.
    """
    return {
        "format": FORMAT,
        "service": context.service,
        "locale": locale,
        "session": {
            "opened_by": session.platform,
            "created_at": format_time(session.created_at),
            "expires_at": None if session.expires_at is None else format_time(session.expires_at),
            "identifier_kinds": sorted({kind for kind, _ in session.subjects}),
            "key_epoch": session.epoch,
        },
        "record": own_record(context, weights, session),
        "meanings": meanings(locale),
        "verify": verify(origin, log_key, locale, prefix),
    }


def meanings(locale: str) -> dict[str, dict[str, str]]:
    """What each code of the record means, by the member that holds it."""
    told = texts(locale)
    return {
        "tier": {one.value: case_texts.tier_text(one, locale) for one in Tier},
        "conduct": {one.value: case_texts.conduct_text(one, locale) for one in Conduct},
        "status": {one.value: case_texts.status_text(one, locale) for one in Status},
        "evidence": {one.value: case_texts.evidence_text(one, locale) for one in EvidenceType},
        "findings": {
            one.value: f"{finding_texts.title(one, locale)}. {finding_texts.limit(one, locale)}" for one in FindingCode
        },
        "trust": {one.value: told.gettext(finding_texts.TRUSTS[one]) for one in Trust}
        | {"null": told.gettext(finding_texts.NOT_SIGNED)},
        "source": {str(one or "null"): told.gettext(text) for one, text in record_texts.ORIGINS.items()},
        "verdict": {code: told.gettext(text) for code, text in record_texts.VERDICTS.items()},
        "former_label": {"true": told.gettext(record_texts.FORMER_LABEL)},
        "matched_kinds": {one.value: case_texts.kind_text(one, locale) for one in Kind},
        "grounds": {one.value: case_texts.grounds_text(one, locale) for one in Grounds},
        "state": {one.value: case_texts.state_text(one, locale) for one in CaseState},
        "action": {one.value: case_texts.action_text(one, locale) for one in Action},
        "by": {
            name: case_texts.actor_text(actor, locale)
            for name, actor in (
                ("person", Actor.SUBJECT),
                ("reporter", Actor.REPORTER),
                ("reviewer", Actor.STAFF),
                ("clock", Actor.CLOCK),
                ("ledger", Actor.LEDGER),
            )
        },
        "case_outcome": {one.value: case_texts.outcome_text(one, locale) for one in Outcome},
        "outcome": {code: told.gettext(text) for code, text in record_texts.REFUNDS.items()},
        "purpose": {code: told.gettext(text) for code, text in record_texts.PURPOSES.items()},
        "orders": {code: told.gettext(text) for code, text in record_texts.ORDERS.items()},
        "claim": {code: told.gettext(text) for code, text in record_texts.CLAIMS.items()},
        "reported_by": {"null": told.gettext("Another member, whose name is not told")},
    }


def verify(origin: str, log_key: str, locale: str, prefix: str) -> dict[str, str]:
    """How to check the entry indexes of the record against the public log, without trusting this service."""
    told = texts(locale).gettext
    return {
        "origin": origin,
        "log_key": log_key,
        "checkpoint": prefix + "/log/checkpoint",
        "tiles": prefix + "/log/tile/{level}/{path}",
        "entries": prefix + "/log/tile/entries/{path}",
        "how": told(
            "Each entry_index is the place of an entry in a public log that can only grow. Fetch the checkpoint, check "
            "its signature with log_key, and fetch the entries tile that holds the index (256 entries a tile): the "
            "entry there names its index, the hour in which it was recorded, and a commitment to what it says. Hashed "
            "into the tree as RFC 6962 describes, it leads to the root that the checkpoint signs. Keep the checkpoint: "
            "with it anybody can show later if an entry was taken out, moved or changed."
        ),
    }
