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
from ledger.rules.reports import Outcome as RefundOutcome
from ledger.rules.reports import Status
from ledger.rules.standing import Tier
from ledger.server.appeals.filing import FILING_PURPOSE
from ledger.server.appeals.sessions import SESSION_PURPOSE
from ledger.tlog.entries import WithdrawalReason


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
        "source": {str(one or "null"): told.gettext(text) for one, text in ORIGINS.items()},
        "verdict": {code: told.gettext(text) for code, text in VERDICTS.items()},
        "former_label": {"true": told.gettext(FORMER_LABEL)},
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
        "outcome": {code: told.gettext(text) for code, text in REFUNDS.items()},
        "purpose": {code: told.gettext(text) for code, text in PURPOSES.items()},
        "orders": {code: told.gettext(text) for code, text in ORDERS.items()},
        "claim": {code: told.gettext(text) for code, text in CLAIMS.items()},
        "reported_by": {"null": told.gettext("Another member, whose name is not told")},
    }


def _(message: str) -> str:
    """Marks a text for the catalogue; it is translated when it is asked for."""
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


def origin_text(source: str | None, locale: str) -> str:
    """Where an original file of a report came from."""
    return texts(locale).gettext(ORIGINS[source])


def verdict_text(verdict: str, locale: str) -> str:
    """What an issuer answered about a file."""
    return texts(locale).gettext(VERDICTS[verdict])


def refund_text(code: str, locale: str) -> str:
    """How the refund ended that a report is about. Raises KeyError for a code that does not exist, as all here."""
    return texts(locale).gettext(REFUNDS[code])


def purpose_text(code: str, locale: str) -> str:
    """Why somebody looked."""
    return texts(locale).gettext(PURPOSES[code])


def claim_text(code: str, locale: str) -> str:
    """What the refund request said that a lookup was made for."""
    return texts(locale).gettext(CLAIMS[code])


WITHDRAWALS: dict[WithdrawalReason, str] = {
    WithdrawalReason.WRONG_PERSON: _("The report was about the wrong person"),
    WithdrawalReason.WRONG_FACTS: _("The report said something that was not so"),
    WithdrawalReason.DUPLICATE: _("The same matter was reported twice"),
    WithdrawalReason.OTHER: _("For another reason"),
    WithdrawalReason.LINKED_REPORT_VOID: _("A report that it rests on was taken back or decided against"),
    WithdrawalReason.NOT_RELEASED: _("It was held, and not released in time"),
    WithdrawalReason.MALFORMED_SUBJECT: _("It was recorded in a form under which it could not be found"),
}
"""Why a report was taken back."""

_NO_CODES = frozenset({"reported_by"})
"""Members of `meanings` that explain a name and no code."""


def texts_of(locale: str) -> dict[str, dict[str, str]]:
    """The text of each code in `locale` (one of LOCALES), by the member of an answer that holds the code.

    Raises NotFound for another locale.
    """
    if locale not in LOCALES:
        raise NotFound(f"There are texts in {' and '.join(LOCALES)}.")
    return {
        "reasons": {code.value: reason_text(code, locale) for code in REASON_TEXTS},
        "guidance": {code.value: advice_text(code, locale) for code in ADVICE_TEXTS},
        **{name: codes for name, codes in meanings(locale).items() if name not in _NO_CODES},
        "reason": {code.value: texts(locale).gettext(text) for code, text in WITHDRAWALS.items()},
    }
