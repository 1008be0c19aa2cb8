"""The evidence of a case as the console shows it: findings in words, what was inspected again, reused pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.evidence import finding_texts
from ledger.evidence.findings import Fact
from ledger.i18n import texts
from ledger.rules.conduct import Conduct, Evidence, EvidenceType, Inspection, known_codes
from ledger.rules.corroboration import LISTING_CODES, Comparison, Corroboration, compare
from ledger.rules.findings import CODES, TRUSTED, About, Trust, strength_of
from ledger.rules.pictures import Unsearched, why_unsearched
from ledger.server.appeals.case_page import CaseFile, EvidenceItem
from ledger.server.appeals.inspection import (
    COMPARED_TYPES,
    INSPECTED_TYPES,
    Failure,
    InspectionAttempt,
    InspectionResult,
)
from ledger.server.pictures.search import reuse
from ledger.server.runtime import Runtime


def _(text: str) -> str:
    """Marks a text for the catalogues."""
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
"""Colour of the badge and its words."""

COMPARISONS: Mapping[Comparison, tuple[str, str]] = {
    Comparison.AGREES: ("green", _("Agrees with the report")),
    Comparison.OTHER_VERSION: ("amber", _("Differs: another version of the tool made the report’s")),
    Comparison.OTHER_FINDINGS: ("red", _("Differs: other findings")),
    Comparison.OTHER_TRUST: (
        "amber",
        _("The same findings, another trust in the signer: a certificate expired since, or the report says it wrongly"),
    ),
    Comparison.OTHER_DETAILS: (
        "amber",
        _("The same findings, other details: other facts, other photos, or another version of a library"),
    ),
    Comparison.NO_LISTING: (
        "amber",
        _("Cannot be made again whole: the merchant’s photo was not compared here"),
    ),
}
FAILURES: Mapping[Failure, str] = {
    Failure.EXTRA_MISSING: _("Files cannot be inspected on this server: the extra “evidence” is not installed."),
    Failure.UNFIT: _("This file cannot be inspected: it is of another type, or damaged."),
    Failure.STOPPED: _("The inspection took too much time or memory and was stopped. That says nothing of the person."),
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
    """A finding for people. `trust` says what stands behind its signature, if it rests on one, and `limit` what it does
    not show; sentence, place and facts are known only of an inspection that was made here."""

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
    """An inspection that was made here, for the item that it is shown with; `matched` are the merchant's photos that
    the file was made from, by their SHA-256 in base64url."""

    groups: Groups
    conclusion: str
    notes: tuple[str, ...]
    comparison: Comparison | None
    matched: tuple[str, ...]
    made: InspectionResult


@dataclass(frozen=True, slots=True)
class ShownItem:
    """A reported item. `same_as` is the item of the same file, if another one, with which that is inspected: `groups`,
    what the reported inspection found, are shown there if they are the same, and so is `file_id`, the file that can be
    inspected again, and with that compared with the merchant's photo if it `compares`. `reuse` is an answer of
    `ledger.server.pictures.search.reuse`, or `unsearched` says why there is none."""

    item: EvidenceItem
    groups: Groups | None
    file_id: str | None
    compares: bool
    same_as: int | None
    look: ShownLook | None
    failure: Failure | None
    reuse: Mapping[str, Any] | None
    unsearched: str | None


def shown_items(
    rt: Runtime, file: CaseFile, file_ids: Mapping[int, str], locale: str, look: InspectionAttempt | None
) -> list[ShownItem]:
    """The items of a case in their order, and what came of looking into a file just now. Raises DatabaseUnavailable."""
    evidence = [one.evidence for one in file.items]
    leading = _leading(evidence)
    unsearched = why_unsearched(Conduct(file.row.conduct), evidence)
    searched = [one.pdq is not None and why is None for one, why in zip(evidence, unsearched, strict=True)]
    met = reuse(rt.pictures, file.row.report_id) if any(searched) else {}
    photos = {
        one.evidence.sha256 for one in file.items if one.evidence.type is EvidenceType.SOURCE_IMAGE and _is_still(one)
    }
    shown = []
    for place, item in enumerate(file.items):
        one = item.evidence
        leads, looked, matching = leading[one.sha256] == place, None, item.matching
        if leads and look is not None and look.sha256 == one.sha256:
            looked = look
        repeated = not leads and one.inspection == evidence[leading[one.sha256]].inspection
        inspectable = leads and matching is not None and matching.media_type in INSPECTED_TYPES
        made = None if looked is None else looked.inspected
        hits = met.get(bytes.fromhex(one.pdq)) if one.pdq is not None and unsearched[place] is None else None
        shown.append(
            ShownItem(
                item=item,
                groups=_reported(one.inspection, locale) if one.inspection and not repeated else None,
                file_id=file_ids[matching.id] if matching is not None and inspectable else None,
                compares=inspectable and _is_still(item) and bool(photos - {one.sha256}),
                same_as=None if leads else leading[one.sha256],
                look=None if made is None else _look(made, one.inspection, locale),
                failure=None if looked is None else looked.failure,
                reuse=hits,
                unsearched=None if hits is not None else _why_unsearched(one, unsearched[place]),
            )
        )
    return shown


def _is_still(item: EvidenceItem) -> bool:
    """Whether the file was handed in and is a picture that can be compared."""
    return item.matching is not None and item.matching.media_type in COMPARED_TYPES


def _leading(evidence: Sequence[Evidence]) -> dict[bytes, int]:
    """By its SHA-256, the item with which a file is inspected again: the first with an inspection to compare with."""
    found: dict[bytes, int] = {}
    for place, one in enumerate(evidence):
        before = found.setdefault(one.sha256, place)
        if one.inspection is not None and evidence[before].inspection is None:
            found[one.sha256] = place
    return found


def _why_unsearched(item: Evidence, why: Unsearched | None) -> str | None:
    if why is not None:
        return UNSEARCHED[why]
    if item.pdq is not None:
        return NOT_AMONG_THE_FIRST
    return NO_HASH if item.type is EvidenceType.ORIGINAL_FILE else None


def _look(made: InspectionResult, reported: Inspection | None, locale: str) -> ShownLook:
    groups: dict[str, list[ShownFinding]] = {}
    for one in made.findings:
        code, trust = one.code.value, one.trust
        shown = ShownFinding(
            code, one.strength.value, finding_texts.title(code, locale, trust), "",
            finding_texts.limit(code, locale, trust),
            finding_texts.sentence(one, locale), one.where, one.facts,
        )  # fmt: skip
        groups.setdefault(_group(code, trust), []).append(shown)
    conclusion = texts(locale).gettext(finding_texts.CONCLUSIONS[made.conclusion])
    return ShownLook(
        groups=groups,
        conclusion=conclusion
        if made.again.complete
        else f"{conclusion} {texts(locale).gettext(finding_texts.INCOMPLETE)}",
        notes=tuple(finding_texts.note_sentence(note, locale) for note in made.notes),
        comparison=None if reported is None else compare(reported, made.again),
        matched=tuple(str(one.facts["listing_sha256"]) for one in made.findings if "listing_sha256" in one.facts),
        made=made,
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
