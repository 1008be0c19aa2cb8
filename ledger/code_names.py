"""Display names of codes in pages and letters, in every language, and display of amounts as bands.

The texts describe what a report claims and contain no accusation. Every function raises ValueError for an unknown code.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import TypeVar

from ledger.i18n import texts
from ledger.protocol.currencies import MINOR_DIGITS
from ledger.protocol.identifiers import Kind
from ledger.rules.appeals import Action, Actor, CaseState, Grounds, Outcome
from ledger.rules.conduct import Conduct, EvidenceType
from ledger.rules.reports import Status
from ledger.rules.standing import Tier

_Code = TypeVar("_Code", bound=StrEnum)


def _(message: str) -> str:
    """Mark a text for the catalogue; it is translated when it is shown."""
    return message


GROUNDS: dict[Grounds, str] = {
    Grounds.NOT_ME: _("It was not me"),
    Grounds.WRONG_FACTS: _("It did not happen like that"),
    Grounds.EVIDENCE_WRONG: _("The evidence is wrong or does not show this"),
    Grounds.PAID_BACK: _("I have paid the money back"),
    Grounds.NOT_TOLD: _("I was not told about the report"),
    Grounds.OTHER: _("Another reason"),
}

STATES: dict[CaseState, str] = {
    CaseState.SUBMITTED: _("Waiting for a reviewer"),
    CaseState.UNDER_REVIEW: _("A reviewer is looking at it"),
    CaseState.AWAITING_REPORTER: _("Waiting for an answer from the platform that made the report"),
    CaseState.AWAITING_SUBJECT: _("Waiting for an answer from the person"),
    CaseState.AWAITING_SIGNOFF: _("Waiting for a second reviewer to agree"),
    CaseState.DECIDED: _("Decided"),
    CaseState.CLOSED: _("Closed"),
    CaseState.WITHDRAWN: _("Appeal withdrawn"),
}

EVIDENCE: dict[EvidenceType, str] = {
    EvidenceType.ORIGINAL_FILE: _("The original file of the claim"),
    EvidenceType.SOURCE_IMAGE: _("The picture from which the photo was made"),
    EvidenceType.AI_LABEL: _("A mark in the file that names an image generator"),
    EvidenceType.ISSUER_CONFIRMATION: _("The answer of an AI service’s provider about the file"),
    EvidenceType.LISTING_MATCH: _("The photo is also found in a product listing"),
    EvidenceType.LIVE_RESHOOT_FAILED: _("A new photo was asked for and does not show the damage"),
    EvidenceType.PHYSICAL_CONTRADICTION: _("The returned item does not match the photo"),
    EvidenceType.FRAME_CONTRADICTION: _("Frames of the video contradict each other"),
    EvidenceType.ADMISSION: _("A statement in which the person says that it was so"),
    EvidenceType.DELIVERY_SCAN: _("Scan at delivery"),
    EvidenceType.DELIVERY_GPS: _("Place of delivery"),
    EvidenceType.DELIVERY_PHOTO: _("Photo of the delivery"),
    EvidenceType.SIGNATURE: _("Signature at delivery"),
    EvidenceType.DISPATCH_WEIGHT: _("Weight of the parcel when it was sent"),
    EvidenceType.RETURN_WEIGHT: _("Weight of the returned parcel"),
    EvidenceType.INTAKE_PHOTO: _("Photo taken when the return arrived"),
    EvidenceType.SERIAL_MISMATCH: _("A serial number that is not the one sold"),
    EvidenceType.INSPECTION_REPORT: _("Report of an inspection"),
    EvidenceType.CARRIER_RECORD: _("The carrier’s record"),
    EvidenceType.POLICY_CLAUSE: _("The clause of the return policy"),
    EvidenceType.UNDISPUTED_TRANSACTION: _("An earlier payment that was not contested"),
    EvidenceType.IP_MATCH: _("The same internet address"),
    EvidenceType.DEVICE_MATCH: _("The same device"),
    EvidenceType.LINKED_INSTRUMENT: _("A means of payment or device shared with another reported account"),
}

ACTIONS: dict[Action, str] = {
    Action.OPEN: _("Appeal opened"),
    Action.ADOPT: _("The person made the appeal their own"),
    Action.TAKE: _("A reviewer took the case"),
    Action.ASSIGN: _("The case was given to a reviewer"),
    Action.HAND_BACK: _("The case was handed back to the queue"),
    Action.ASK_REPORTER: _("Question to the platform that made the report"),
    Action.ASK_SUBJECT: _("Question to the person"),
    Action.REPORTER_ANSWERED: _("Answer from the platform that made the report"),
    Action.SUBJECT_ANSWERED: _("Answer from the person"),
    Action.REPORTER_SILENT: _("The platform that made the report did not answer in time"),
    Action.SUBJECT_SILENT: _("The person did not answer in time"),
    Action.ADD: _("Something was added"),
    Action.NOTE: _("Internal note"),
    Action.EXTEND: _("More time to decide, because there is new information"),
    Action.OVERDUE: _("The time for a decision has passed"),
    Action.PROPOSE: _("A decision was proposed to a second reviewer"),
    Action.SIGN: _("A second reviewer agreed"),
    Action.DECLINE: _("A second reviewer did not agree"),
    Action.DECIDE: _("Decision"),
    Action.WITHDRAW: _("The appeal was withdrawn"),
    Action.CONCEDE: _("The platform that made the report proposed a correction"),
    Action.AGREE: _("The person agreed to the correction"),
    Action.REOPEN: _("The case was reopened"),
    Action.ASK_REOPENING: _("The platform that made the report asked to reopen the case, for new evidence"),
    Action.GRANT_REOPENING: _("The case was reopened for the platform’s new evidence"),
    Action.REFUSE_REOPENING: _("The case was not reopened for the platform"),
    Action.REPORT_GONE: _("The report is gone: taken back, expired, or decided in another case"),
    Action.CLOSE: _("The case was closed"),
}

ACTORS: dict[Actor, str] = {
    Actor.SUBJECT: _("The person"),
    Actor.REPORTER: _("The platform that made the report"),
    Actor.STAFF: _("The review team"),
    Actor.CLOCK: _("Time limit"),
    Actor.LEDGER: _("The ledger"),
}

TIERS: dict[Tier, str] = {
    Tier.CLEAR: _("Nothing that counts"),
    Tier.WATCH: _("Look once more"),
    Tier.REVIEW: _("A person should look at refund requests"),
    Tier.HIGH: _("Several independent platforms made reports"),
}

KINDS: dict[Kind, str] = {
    Kind.PHONE: _("phone number"),
    Kind.EMAIL: _("e-mail address"),
    Kind.CN_ID: _("identity card number"),
    Kind.PAYMENT: _("means of payment"),
    Kind.DEVICE: _("device"),
}

STATUSES: dict[Status, str] = {
    Status.COOLING: _("Not shown to platforms yet"),
    Status.COUNTING: _("Counts"),
    Status.HELD: _("Held back: it may repeat a report that was contested; does not count"),
    Status.DISPUTED: _("Contested: does not count"),
    Status.UNCONFIRMED: _("Not confirmed: does not count"),
    Status.WITHDRAWN: _("Taken back by the platform"),
    Status.OVERTURNED: _("Removed after an appeal"),
    Status.VICTIM: _("Removed: somebody else did it"),
    Status.EXPIRED: _("Expired"),
    Status.ERASED: _("Erased"),
}


def conduct_text(code: str, locale: str) -> str:
    """Return the text of a conduct: what a report of it claims."""
    return texts(locale).gettext(Conduct(code).spec.text)


def grounds_text(code: str, locale: str) -> str:
    """Return the text of the grounds on which a person contests a report."""
    return _text(Grounds(code), GROUNDS, locale)


def state_text(code: str, locale: str) -> str:
    """Return the text of a state of a case."""
    return _text(CaseState(code), STATES, locale)


def outcome_text(code: str, locale: str) -> str:
    """Return the text of an outcome, in one line."""
    return texts(locale).gettext(Outcome(code).spec.name)


def evidence_text(code: str, locale: str) -> str:
    """Return the text of a type of evidence."""
    return _text(EvidenceType(code), EVIDENCE, locale)


def action_text(code: str, locale: str) -> str:
    """Return the text of an action in a case."""
    return _text(Action(code), ACTIONS, locale)


def actor_text(code: str, locale: str) -> str:
    """Return the text of an actor in a case."""
    return _text(Actor(code), ACTORS, locale)


def tier_text(code: str, locale: str) -> str:
    """Return the meaning of a tier."""
    return _text(Tier(code), TIERS, locale)


def kind_text(code: str, locale: str) -> str:
    """Return the name of a kind of identifier, for use in a sentence."""
    return _text(Kind(code), KINDS, locale)


def status_text(code: str, locale: str) -> str:
    """Return the text of a status of a report: whether it counts, and if not, why."""
    return _text(Status(code), STATUSES, locale)


def _text(code: _Code, table: dict[_Code, str], locale: str) -> str:
    return texts(locale).gettext(table[code])


# Amounts --------------------------------------------------------------------------------------------------------------

Band = tuple[int, int | None]

_BOUNDS = (0, 50, 200, 1000, 5000)
_SCALES = {
    10: (
        "BWP CZK DOP EGP ERN ETB GMD HNL MDL MKD MRU MUR MVR MXN NIO PHP SLE SZL THB TRY "
        "TWD UAH UYU ZAR LSL NAD ZMW ZWG"
    ),
    100: (
        "AFN ALL AMD AOA BDT CRC CVE DJF DZD GYD HTG HUF INR ISK JMD JPY KES KGS KMF KZT LKR LRD MZN NPR PKR RSD RUB "
        "SDG TJS VES VUV XAF XOF XPF YER"
    ),
    1000: "ARS BIF CDF CLP COP GNF IQD KHR KPW KRW MGA MMK MNT MWK NGN PYG RWF SOS SSP TZS UGX ZWL",
    10_000: "IDR IRR LAK LBP SYP UZS VND",
}
_SCALE = {code: scale for scale, codes in _SCALES.items() for code in codes.split()}
"""Units of a currency that buy roughly as much as one unit of a major currency, as a power of ten. It only sets the
width of the bands, so it need not follow exchange rates."""


def amount_band(amount_minor: int, currency: str) -> Band:
    """Return (low, high) in major units for an amount above `low` and up to `high`; `high` is None in the highest band.

    Readers other than the parties see the band: it shows roughly how much, but does not identify the order. An unknown
    currency has two decimals and is not scaled.
    """
    unit = 10 ** MINOR_DIGITS.get(currency, 2)
    scale = _SCALE.get(currency, 1)
    for low, high in pairwise(_BOUNDS):
        if amount_minor <= high * scale * unit:
            return low * scale, high * scale
    return _BOUNDS[-1] * scale, None


def band_text(band: Band, currency: str, locale: str) -> str:
    """Return a band as text, with the currency's code, because a symbol such as ¥ belongs to two currencies."""
    language = texts(locale)
    low, high = band
    if high is None:
        return language.gettext("over %(low)s %(currency)s", low=language.number(low), currency=currency)
    if low == 0:
        return language.gettext("up to %(high)s %(currency)s", high=language.number(high), currency=currency)
    return language.gettext(
        "%(low)s to %(high)s %(currency)s", low=language.number(low), high=language.number(high), currency=currency
    )
