"""What the codes of a person's record are called that no letter tells: how a refund ended, and why somebody looked."""

from __future__ import annotations

from ledger.i18n import texts
from ledger.rules.guidance import Claim
from ledger.rules.provenance import OriginSource, Verdict
from ledger.rules.reports import Outcome
from ledger.server.appeals.attempts import FILING_PURPOSE
from ledger.server.appeals.sessions import SESSION_PURPOSE


def _(message: str) -> str:
    """Marks a text for the catalogue; it is translated when it is asked for."""
    return message


REFUNDS: dict[str, str] = {
    Outcome.REFUND_REFUSED.value: _("The refund was refused"),
    Outcome.REFUND_RECOVERED.value: _("The refund was paid, and the money came back"),
    Outcome.REFUND_SUFFERED.value: _("The refund was paid"),
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
