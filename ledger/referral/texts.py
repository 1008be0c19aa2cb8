"""Texts of a referral: neutral, and fair to the person.

A referral states what a platform asserts and what its evidence shows. It never says that a person committed an offence;
a test searches the texts for words that would.
"""

from __future__ import annotations

from ledger.referral.audience import Audience
from ledger.rules.appeals import Actor
from ledger.rules.provenance import OriginSource, Verdict
from ledger.rules.reports import RefundOutcome, Status


def _(message: str) -> str:
    """Mark a text for the catalogue; it is translated when it is shown."""
    return message


TITLE = _("Referral of refund reports")
SUBJECT = _("What a platform reported about its own orders, with evidence digests and log receipts")

AUDIENCES: dict[Audience, str] = {
    Audience.MERCHANT: _("a merchant"),
    Audience.AI_PROVIDER: _("a provider of an AI service"),
    Audience.AUTHORITY: _("an authority"),
}

NOTICES: tuple[str, ...] = (
    _(
        "This file says what the platform %(platform)s asserts about its own orders, and shows by which digests and "
        "log receipts that can be checked. It is not a finding that anybody committed a crime or another offence: that "
        "is for courts and the competent authorities alone."
    ),
    _(
        "Each report was confirmed by a decision of a human at the platform. The person was told and may contest it, "
        "and has to be heard before anything is decided on the basis of this file."
    ),
    _(
        "Apart from what somebody wrote in an appeal, it holds no name, telephone number, account or other identifier "
        "of a person; it holds no credit standing, and nothing that other platforms reported. Reports in one file may "
        "be about different persons."
    ),
)

ENVIRONMENT = _("Made in the environment “%(environment)s”: nothing in this file is about a real case.")

MARKS: dict[Status, str] = {
    Status.DISPUTED: _(
        "Contested: a person disputes %(reports)s, and a decision is owed. Until then it does not count."
    ),
    Status.UNCONFIRMED: _(
        "Not confirmed: an appeal could not establish %(reports)s. It stays recorded with both statements and does not "
        "count."
    ),
    Status.COOLING: _("Recent: the person was told of %(reports)s so recently that no platform is shown it yet."),
}

NOW: dict[Status, str] = {
    Status.COOLING: _("recorded, not yet shown to platforms"),
    Status.COUNTING: _("stands"),
    Status.DISPUTED: _("contested"),
    Status.UNCONFIRMED: _("not confirmed"),
}

MONEY: dict[RefundOutcome, str] = {
    RefundOutcome.REFUND_REFUSED: _("the refund was asked for and not paid"),
    RefundOutcome.REFUND_RECOVERED: _("the refund was paid and recovered"),
    RefundOutcome.REFUND_SUFFERED: _("the refund was paid"),
}

SPEAKERS: dict[str, Actor] = {"person": Actor.SUBJECT, "reporter": Actor.REPORTER, "reviewer": Actor.STAFF}
"""Actors of a case by the name that the ledger gives to the author of a statement."""

PLATFORM = _("Platform")
FOR = _("For")
MADE = _("Made on")
LEDGER = _("Ledger")
AT_A_GLANCE = _("At a glance")
REPORT = _("Report")
WHAT_IT_SAYS = _("What the report says")
NOW_IT = _("As of now")
ACT_ENDED = _("The act ended")
TOLD = _("The person was told")
RECORDED = _("Recorded")
EXPIRES = _("Expires")
DECIDED_BY = _("Confirmed by")
DECISION = _("the platform’s human decision %(ref)s, told in notice %(notice)s")
AMENDED = _("After an appeal it counts as: %(conduct)s")
ORDER = _("Order")
AMOUNT = _("Amount")
RESTITUTED = _("the full amount came back on %(date)s")
REFERENCES = _("References")
ORDER_REF = _("order %(ref)s")
CONSENT_REF = _("consent %(ref)s")
REPLACES = _("corrects %(report)s")
LOG_RECEIPT = _("Log receipt")
RECEIPT = _("%(file)s: entry %(index)s, recorded in the hour %(hour)s")
EVIDENCE = _("Evidence")
EVIDENCE_NOTE = _("The files stay with the platform. Whoever is shown one compares its SHA-256 with the digest here.")
EVIDENCE_PART = _("Only files that were inspected are listed for this recipient.")
WHAT_IT_IS = _("What it is")
DIGEST = _("SHA-256")
OTHER_TOOL = _("%(tool)s: %(code)s (%(strength)s)")
ORIGIN_UNKNOWN = _("where it came from is not stated: the report is from before that was asked for")
ORIGINS: dict[OriginSource, str] = {
    OriginSource.CLAIM_UPLOAD: _("uploaded with the claim"),
    OriginSource.HANDED_IN_BY_MERCHANT: _("handed in by the merchant"),
}
ORIGINS_AT: dict[OriginSource, str] = {
    OriginSource.CLAIM_UPLOAD: _("uploaded with the claim, received %(time)s"),
    OriginSource.HANDED_IN_BY_MERCHANT: _("handed in by the merchant, received %(time)s"),
}
CONFIRMATION = _("By the platform’s word, %(issuer)s answered on %(date)s about the file %(digest)s: %(verdict)s")
VERDICTS: dict[Verdict, str] = {
    Verdict.GENERATED: _("its service made the file"),
    Verdict.EDITED: _("its service changed a part of the file"),
    Verdict.NOT_ISSUED: _("its service did not make the file"),
    Verdict.UNKNOWN: _("it cannot tell"),
}
FINDINGS = _("Findings of inspections")
FINDINGS_NOTE = _(
    "A finding says how a file came about, not who sent it or what they knew. “%(identifies)s”: an issuer whose "
    "signature is under a trust list says so of the whole picture; “%(indicates)s”: anybody could have written it, or "
    "it is about a part; “%(hint)s”: honest people’s files have it too. Below each stands what it does not show."
)
INSPECTED_FILE = _("File %(digest)s, inspected with %(tool)s")
IN_REPORT = _("The signed report names this inspection by its digest %(digest)s.")
NOT_IN_REPORT = _("This inspection (digest %(digest)s) is not named in the signed report.")
NO_FACTS = _("The report carries the code alone.")
NOTHING_FOUND = _("The inspection found nothing, which does not mean that the file is genuine, nor that it is not.")
FOR_PERSON = _("speaks for the person")
FINDING = _("Finding")
STRENGTH = _("Strength")
NUMBERS = _("Content numbers to look up")
NUMBERS_NOTE = _(
    "Please look up these content numbers in your records and tell the platform whether your service issued them, for "
    "which content, and when. Your answer may speak for the person as well as against what was reported."
)
NUMBERS_NONE = _("The inspections found no content number.")
PRODUCER = _("Producer")
NUMBER = _("Content number")
PLACE = _("Where in the file")
APPEAL = _("Appeal")
APPEAL_NONE = _("The report was not contested so far. The person may contest it while it is recorded.")
APPEAL_STATE = _("The person contested the report. State: %(state)s. A decision is due before %(due)s.")
APPEAL_OUTCOME = _("The person contested the report. Decision: %(outcome)s.")
APPEAL_SAID = _("What was said in the appeal, word for word")
LOSS = _("Loss of the platform")
LOSS_NOTE = _(
    "Of the reports in this file, by currency, never added across currencies. The loss is what was paid out and did "
    "not come back. Contested and unconfirmed reports are not in it. It is the platform’s total and not the amount of "
    "one person."
)
CURRENCY = _("Currency")
LOST = _("Loss")
PAID_OUT = _("Paid out")
CAME_BACK = _("Came back")
RECOVERED = _("Recovered before")
REFUSED = _("Asked for, not paid")
CONTESTED = _("Contested, not in the loss")
LAW = _("The law, for orientation")
LAW_NOTE = _(
    "Whether any of this applies to anything in this file, only a court or the competent authority decides. Amounts "
    "are of one person’s acts, added up only where the law says so; the loss above is not such an amount."
)
LAW_NONE = _("No bands are given for this jurisdiction.")
RULE = _("Rule")
SINCE = _("In force since")
LEVEL = _("Level")
GENERALLY = _("In general (2011)")
NETWORK = _("Network cases (2016)")
FROM = _("from %(low)s yuan")
FROM_RANGE = _("from %(low)s to %(high)s yuan, as the province sets it")
CHECK = _("How to check this file")
CHECK_FILES = _("That no file was changed by accident, in the folder of this file:")
CHECK_WHOLE = _(
    "That the ledger’s log holds each report as the platform signed it, without a network (the command comes with "
    "the Python package refund-credit-ledger):"
)
CHECK_SEALED = _(
    "That the ledger’s log holds an event at the place of each report, without a network. These receipts show no "
    "content; the platform can open them for a court or an authority (the command comes with the Python package "
    "refund-credit-ledger):"
)
CHECK_KEY = _(
    "First compare log-key.txt with the key that the ledger publishes at %(url)s/v1/suite, or that another member has: "
    "a log cannot vouch for its own key."
)
CHECK_PLATFORM_KEY = _(
    "platform-key.pem holds the keys that the log itself names for this platform (entries platform_status)."
)
CHECK_EVIDENCE = _(
    "That a file of evidence is the one that was reported: compare what this prints with the digest above."
)
CHECK_OTHERWISE = _(
    "None of this needs our software: receipts are C2SP tlog-proofs with RFC 6962 inclusion proofs and Ed25519 "
    "signatures. docs/referral.md of the project shows the check as a short Python program."
)
