"""The evidence of a case on its page: texts of findings, repeated inspections, reused pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.evidence import finding_texts
from ledger.evidence.findings import Fact
from ledger.i18n import texts
from ledger.rules.conduct import Conduct, Evidence, EvidenceType, Inspection, known_codes
from ledger.rules.corroboration import LISTING_CODES, Corroboration, InspectionComparison, compare
from ledger.rules.findings import CODES, TRUSTED, About, Trust, strength_of
from ledger.rules.pictures import Unsearched, why_unsearched
from ledger.server.appeals.case_page import CaseFile, EvidenceItem
from ledger.server.appeals.inspection import (
    COMPARED_TYPES,
    INSPECTED_TYPES,
    InspectionAttempt,
    InspectionFailure,
    InspectionResult,
)
from ledger.server.pictures.search import reuse
from ledger.server.runtime import Runtime


def _(text: str) -> str:
    """Mark a text for the catalogues."""
    return text


GROUPS: Mapping[str, str] = {
    "ai": _("Speaks for AI"),
    "altered": _("Speaks for alteration"),
    "listing": _("Compared with the merchant’s photo"),
    "person": _("Speaks for the person"),
    "nobody": _("A camera’s statement without a trusted signer: speaks for nobody"),
    "unknown": _("Not known to this version"),
}
SUPPORTS: Mapping[Corroboration, tuple[str, str]] = {
    Corroboration.FOUND_AGAIN: ("green", _("Found again here")),
    Corroboration.FOUND: ("amber", _("Found, by the reporter’s word")),
    Corroboration.TO_BE_READ: ("grey", _("For a person to judge")),
    Corroboration.INDICATED: ("amber", _("Signs that anybody can write")),
    Corroboration.ASSERTED: ("amber", _("Claimed, and no finding supports it")),
    Corroboration.CONTRADICTED: ("red", _("Findings speak against it")),
}
"""Colour and text of each badge."""

COMPARISONS: Mapping[InspectionComparison, tuple[str, str]] = {
    InspectionComparison.AGREES: ("green", _("Agrees with the report")),
    InspectionComparison.OTHER_VERSION: ("amber", _("Differs: another version of the tool made the report’s")),
    InspectionComparison.OTHER_FINDINGS: ("red", _("Differs: other findings")),
    InspectionComparison.OTHER_TRUST: (
        "amber",
        _("The same findings, another trust in the signer: a certificate expired since, or the report says it wrongly"),
    ),
    InspectionComparison.OTHER_DETAILS: (
        "amber",
        _("The same findings, other details: other facts, other photos, or another version of a library"),
    ),
    InspectionComparison.NO_LISTING: (
        "amber",
        _("Cannot be made again whole: the merchant’s photo was not compared here"),
    ),
}
FAILURES: Mapping[InspectionFailure, str] = {
    InspectionFailure.EXTRA_MISSING: _(
        "Files cannot be inspected on this server: the extra “evidence” is not installed."
    ),
    InspectionFailure.UNFIT: _("This file cannot be inspected: it is of another type, or damaged."),
    InspectionFailure.STOPPED: _(
        "The inspection took too much time or memory and was stopped. That says nothing of the person."
    ),
}
UNSEARCHED: Mapping[Unsearched, str] = {
    Unsearched.PROTECTIVE: _("Not searched for reuse: the report accuses nobody."),
    Unsearched.NOT_THE_CLAIMANTS: _("Not searched for reuse: only the claimant’s own files are."),
    Unsearched.NO_QUALITY: _("Not searched for reuse: the report does not give the quality of the hash."),
    Unsearched.LOW_QUALITY: _(
        "Not searched for reuse: a hash of a quality below 50 says too little about its picture."
    ),
    Unsearched.FLAT: _("Not searched for reuse: no picture with anything in it has such a hash."),
    Unsearched.MERCHANTS_PHOTO: _(
        "Not searched for reuse: as far as the hash can tell, it is the merchant’s own photo."
    ),
}
NO_HASH = _("Not searched for reuse: the report gives no hash of this picture.")
NOT_AMONG_THE_FIRST = _("Not searched for reuse: only the first 8 hashes of a report are.")


@dataclass(frozen=True, slots=True)
class ShownFinding:
    """A finding with its texts. `trust` describes the trust in its signature, if it has one, and `limit` what it does
    not show; sentence, place and facts exist only for an inspection that was made here."""

    code: str
    strength: str | None
    title: str
    trust: str
    limit: str
    sentence: str = ""
    where: str = ""
    facts: Mapping[str, Fact] | None = None


Groups = Mapping[str, list[ShownFinding]]


@dataclass(frozen=True, slots=True)
class ShownLook:
    """An inspection that was made here, for the item with which it is shown; `matched` has the SHA-256 (base64url) of
    the merchant's photos of which the file is an edited copy."""

    groups: Groups
    conclusion: str
    notes: tuple[str, ...]
    comparison: InspectionComparison | None
    matched: tuple[str, ...]
    inspected: InspectionResult


@dataclass(frozen=True, slots=True)
class ShownItem:
    """A reported item of evidence. `same_as` is the item of the same file with which the file is inspected, if it is
    another one. That item then shows `groups` (the findings of the reported inspection) if they are equal, and
    `file_id` (the file that can be inspected again, and compared with the merchant's photo if it `compares`). `reuse`
    is an answer of `ledger.server.pictures.search.reuse`; `unsearched` is the reason if there is none."""

    item: EvidenceItem
    groups: Groups | None
    file_id: str | None
    compares: bool
    same_as: int | None
    look: ShownLook | None
    failure: InspectionFailure | None
    reuse: Mapping[str, Any] | None
    unsearched: str | None


def shown_items(
    rt: Runtime, file: CaseFile, file_ids: Mapping[int, str], locale: str, look: InspectionAttempt | None
) -> list[ShownItem]:
    """Return the items of a case in their order, with the result of the inspection `look`, if there is one. Raises
    DatabaseUnavailable."""
    evidence = [item.evidence for item in file.items]
    leading = _leading(evidence)
    unsearched = why_unsearched(Conduct(file.row.conduct), evidence)
    searched = [item.pdq is not None and why is None for item, why in zip(evidence, unsearched, strict=True)]
    met = reuse(rt.pictures, file.row.report_id) if any(searched) else {}
    photos = {
        item.evidence.sha256
        for item in file.items
        if item.evidence.type is EvidenceType.SOURCE_IMAGE and _is_still(item)
    }
    shown = []
    for place, item in enumerate(file.items):
        evidence_item = item.evidence
        leads, looked, matching = leading[evidence_item.sha256] == place, None, item.matching
        if leads and look is not None and look.sha256 == evidence_item.sha256:
            looked = look
        repeated = not leads and evidence_item.inspection == evidence[leading[evidence_item.sha256]].inspection
        inspectable = leads and matching is not None and matching.media_type in INSPECTED_TYPES
        inspected = None if looked is None else looked.inspected
        hits = (
            met.get(bytes.fromhex(evidence_item.pdq))
            if evidence_item.pdq is not None and unsearched[place] is None
            else None
        )
        shown.append(
            ShownItem(
                item=item,
                groups=_reported(evidence_item.inspection, locale)
                if evidence_item.inspection and not repeated
                else None,
                file_id=file_ids[matching.id] if matching is not None and inspectable else None,
                compares=inspectable and _is_still(item) and bool(photos - {evidence_item.sha256}),
                same_as=None if leads else leading[evidence_item.sha256],
                look=None if inspected is None else _look(inspected, evidence_item.inspection, locale),
                failure=None if looked is None else looked.failure,
                reuse=hits,
                unsearched=None if hits is not None else _why_unsearched(evidence_item, unsearched[place]),
            )
        )
    return shown


def _is_still(item: EvidenceItem) -> bool:
    """True if the file was submitted and is a picture that can be compared."""
    return item.matching is not None and item.matching.media_type in COMPARED_TYPES


def _leading(evidence: Sequence[Evidence]) -> dict[bytes, int]:
    """Return, by SHA-256, the item with which a file is inspected again: the first that has a reported inspection."""
    leading: dict[bytes, int] = {}
    for place, item in enumerate(evidence):
        before = leading.setdefault(item.sha256, place)
        if item.inspection is not None and evidence[before].inspection is None:
            leading[item.sha256] = place
    return leading


def _why_unsearched(item: Evidence, why: Unsearched | None) -> str | None:
    if why is not None:
        return UNSEARCHED[why]
    if item.pdq is not None:
        return NOT_AMONG_THE_FIRST
    return NO_HASH if item.type is EvidenceType.ORIGINAL_FILE else None


def _look(inspected: InspectionResult, reported: Inspection | None, locale: str) -> ShownLook:
    groups: dict[str, list[ShownFinding]] = {}
    for finding in inspected.findings:
        code, trust = finding.code.value, finding.trust
        shown = ShownFinding(
            code, finding.strength.value, finding_texts.title(code, locale, trust), "",
            finding_texts.limit(code, locale, trust),
            finding_texts.sentence(finding, locale), finding.where, finding.facts,
        )  # fmt: skip
        groups.setdefault(_group(code, trust), []).append(shown)
    conclusion = texts(locale).gettext(finding_texts.CONCLUSIONS[inspected.conclusion])
    return ShownLook(
        groups=groups,
        conclusion=conclusion
        if inspected.again.complete
        else f"{conclusion} {texts(locale).gettext(finding_texts.INCOMPLETE)}",
        notes=tuple(finding_texts.note_sentence(note, locale) for note in inspected.notes),
        comparison=None if reported is None else compare(reported, inspected.again),
        matched=tuple(
            str(finding.facts["listing_sha256"]) for finding in inspected.findings if "listing_sha256" in finding.facts
        ),
        inspected=inspected,
    )


def _reported(inspection: Inspection, locale: str) -> Groups:
    groups: dict[str, list[ShownFinding]] = {}
    trust = inspection.trust
    for code in inspection.findings:
        known = known_codes([code])
        strength = strength_of(known[0], trust).value if known else None
        shown = ShownFinding(
            code, strength, finding_texts.title(code, locale, trust), finding_texts.trust_sentence(code, trust, locale),
            finding_texts.limit(code, locale, trust),
        )  # fmt: skip
        groups.setdefault(_group(code, trust), []).append(shown)
    return groups


def _group(code: str, trust: Trust | None) -> str:
    known = known_codes([code])
    if not known:
        return "unknown"
    if code in LISTING_CODES:
        return "listing"
    about = CODES[known[0]][1]
    if about is About.CAPTURED:
        return "person" if trust in TRUSTED else "nobody"
    return "ai" if about in (About.MADE_BY_AI, About.EDITED_WITH_AI) else "altered"
