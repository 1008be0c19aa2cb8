"""Texts of the codes in a person's record and in the API's answers, in one language."""

from __future__ import annotations

from ledger import code_names as case_texts
from ledger.catalogue import advice_text, reason_text
from ledger.errors import NotFound
from ledger.evidence import finding_texts
from ledger.i18n import LOCALES, texts
from ledger.protocol.identifiers import Kind
from ledger.rules.appeals import Action, Actor, CaseState, Grounds, Outcome
from ledger.rules.conduct import Conduct, EvidenceType
from ledger.rules.findings import FindingCode, Trust
from ledger.rules.guidance import ADVICE_TEXTS, Claim
from ledger.rules.provenance import OriginSource, Verdict
from ledger.rules.reasons import REASON_TEXTS
from ledger.rules.reports import RefundOutcome, Status
from ledger.rules.standing import Tier
from ledger.server.appeals.filing import FILING_PURPOSE
from ledger.server.appeals.sessions import SESSION_PURPOSE
from ledger.tlog.entries import WithdrawalReason


def _(message: str) -> str:
    """Return `message` itself, marked for the catalogues; it is translated when it is shown."""
    return message


REFUNDS: dict[str, str] = {
    RefundOutcome.REFUND_REFUSED.value: _("The refund was refused"),
    RefundOutcome.REFUND_RECOVERED.value: _("The refund was paid, and the money came back"),
    RefundOutcome.REFUND_SUFFERED.value: _("The refund was paid"),
}

PURPOSES: dict[str, str] = {
    "refund_review": _("To look at a refund request"),
    "appeal": _("To work on an appeal"),
    FILING_PURPOSE: _("To contest reports for you"),
    SESSION_PURPOSE: _("Your own record was opened for you"),
}

ORDERS: dict[str, str] = {
    "one": _("Requests about one order on one day (UTC)"),
    "several": _("Requests about several orders: those that are not listed one by one"),
}

CLAIMS: dict[str, str] = {
    Claim.DAMAGED.value: _("Arrived damaged"),
    Claim.NOT_RECEIVED.value: _("Not received"),
    Claim.NOT_AS_DESCRIBED.value: _("Not as described"),
    Claim.RETURNED.value: _("Returned"),
    Claim.OTHER.value: _("Another reason"),
}

ORIGINS: dict[str | None, str] = {
    OriginSource.CLAIM_UPLOAD.value: _("uploaded with the claim"),
    OriginSource.HANDED_IN_BY_MERCHANT.value: _("handed in by the merchant"),
    None: _("the report does not say where it came from"),
}

VERDICTS: dict[str, str] = {
    Verdict.GENERATED.value: _("its service made the file"),
    Verdict.EDITED.value: _("its service changed a part of the file"),
    Verdict.NOT_ISSUED.value: _("its service did not make the file"),
    Verdict.UNKNOWN.value: _("it cannot tell"),
}

FORMER_LABEL = _(
    "The report counts a label that anybody could have written as proof that the file was made by AI, as was allowed "
    "when it was made. For a new report it would not be enough. You may say so in an appeal."
)

WITHDRAWALS: dict[WithdrawalReason, str] = {
    WithdrawalReason.WRONG_PERSON: _("The report was about the wrong person"),
    WithdrawalReason.WRONG_FACTS: _("The report said something that was not so"),
    WithdrawalReason.DUPLICATE: _("The same matter was reported twice"),
    WithdrawalReason.OTHER: _("For another reason"),
    WithdrawalReason.LINKED_REPORT_VOID: _("A report that it rests on was taken back or decided against"),
    WithdrawalReason.NOT_RELEASED: _("It was held, and not released in time"),
    WithdrawalReason.MALFORMED_SUBJECT: _("It was recorded in a form under which it could not be found"),
}
"""Why a report was withdrawn."""

_NO_CODES = frozenset({"reported_by"})
"""Members of `meanings` that explain a name instead of a code."""


def meanings(locale: str) -> dict[str, dict[str, str]]:
    """Return the text of each code of the record, by the member that holds it."""
    catalogue = texts(locale)
    return {
        "tier": {tier.value: case_texts.tier_text(tier, locale) for tier in Tier},
        "conduct": {conduct.value: case_texts.conduct_text(conduct, locale) for conduct in Conduct},
        "status": {status.value: case_texts.status_text(status, locale) for status in Status},
        "evidence": {type_.value: case_texts.evidence_text(type_, locale) for type_ in EvidenceType},
        "findings": {
            code.value: f"{finding_texts.title(code, locale)}. {finding_texts.limit(code, locale)}"
            for code in FindingCode
        },
        "trust": {trust.value: catalogue.gettext(finding_texts.TRUSTS[trust]) for trust in Trust}
        | {"null": catalogue.gettext(finding_texts.NOT_SIGNED)},
        "source": {str(source or "null"): catalogue.gettext(text) for source, text in ORIGINS.items()},
        "verdict": {code: catalogue.gettext(text) for code, text in VERDICTS.items()},
        "former_label": {"true": catalogue.gettext(FORMER_LABEL)},
        "matched_kinds": {kind.value: case_texts.kind_text(kind, locale) for kind in Kind},
        "grounds": {grounds.value: case_texts.grounds_text(grounds, locale) for grounds in Grounds},
        "state": {state.value: case_texts.state_text(state, locale) for state in CaseState},
        "action": {action.value: case_texts.action_text(action, locale) for action in Action},
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
        "case_outcome": {outcome.value: case_texts.outcome_text(outcome, locale) for outcome in Outcome},
        "outcome": {code: catalogue.gettext(text) for code, text in REFUNDS.items()},
        "purpose": {code: catalogue.gettext(text) for code, text in PURPOSES.items()},
        "orders": {code: catalogue.gettext(text) for code, text in ORDERS.items()},
        "claim": {code: catalogue.gettext(text) for code, text in CLAIMS.items()},
        "reported_by": {"null": catalogue.gettext("Another member, whose name is not told")},
    }


def texts_of(locale: str) -> dict[str, dict[str, str]]:
    """Return the text of each code in `locale` (one of LOCALES), by the member of an answer that holds the code. Raises
    NotFound for another locale."""
    if locale not in LOCALES:
        raise NotFound(f"There are texts in {' and '.join(LOCALES)}.")
    return {
        "reasons": {code.value: reason_text(code, locale) for code in REASON_TEXTS},
        "guidance": {code.value: advice_text(code, locale) for code in ADVICE_TEXTS},
        **{name: codes for name, codes in meanings(locale).items() if name not in _NO_CODES},
        "reason": {code.value: texts(locale).gettext(text) for code, text in WITHDRAWALS.items()},
    }


def origin_text(source: str | None, locale: str) -> str:
    """Return where an original file of a report came from. Raises KeyError for an unknown code, as all functions
    here."""
    return texts(locale).gettext(ORIGINS[source])


def verdict_text(verdict: str, locale: str) -> str:
    """Return an issuer's answer about a file."""
    return texts(locale).gettext(VERDICTS[verdict])


def refund_text(code: str, locale: str) -> str:
    """Return how the refund ended that a report is about."""
    return texts(locale).gettext(REFUNDS[code])


def purpose_text(code: str, locale: str) -> str:
    """Return why a platform looked the person up."""
    return texts(locale).gettext(PURPOSES[code])


def claim_text(code: str, locale: str) -> str:
    """Return the claim of the refund request for which a lookup was made."""
    return texts(locale).gettext(CLAIMS[code])
