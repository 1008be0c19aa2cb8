"""How far findings corroborate an item of evidence.

A report may claim an `ai_label` or a `listing_match`, and an inspection of the file shows whether there is one. For all
other types it cannot: a person has to read the file. Findings of one file count for every item that names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ledger.rules.conduct import Evidence, EvidenceType, Finding, Inspection, known_codes
from ledger.rules.findings import (
    CODES,
    TRUSTED,
    About,
    FindingCode,
    Strength,
    Trust,
    identifies_ai,
    speaks_for_person,
    strength_of,
)


class Corroboration(StrEnum):
    """How far an item is corroborated, from best to worst."""

    FOUND_AGAIN = "found_again"
    """A reviewer's own inspection of the file finds it."""
    FOUND = "found"
    """A finding in the report shows it. This is the reporter's statement until a reviewer repeats the inspection."""
    TO_BE_READ = "to_be_read"
    """No inspection covers this type; a person has to judge what the file shows."""
    INDICATED = "indicated"
    """There are signs of it that any person can write, or make a certificate for."""
    ASSERTED = "asserted"
    """An inspection could show it, and no finding does."""
    CONTRADICTED = "contradicted"
    """What the report says was found is not in the file, or a camera whose signer is trusted says that it took it."""


class InspectionComparison(StrEnum):
    """A reviewer's inspection beside the one in the report."""

    AGREES = "agrees"
    OTHER_TRUST = "other_trust"
    """The same findings, another trust in their signer: a certificate has expired since, or the report says otherwise
    than the lists do."""
    OTHER_DETAILS = "other_details"
    """The same codes with other facts or notes, as another version of the C2PA library or other photos give."""
    NO_LISTING = "no_listing"
    """The report's was compared with the merchant's photo, and there is none to compare with here."""
    OTHER_FINDINGS = "other_findings"
    OTHER_VERSION = "other_version"
    """Another version of the tool made the report's: it may know more, or less."""


@dataclass(frozen=True, slots=True)
class Again:
    """A reviewer's own inspection of a file: as a report would carry it, and whether all that may hold a label was
    read. `alone` is the same without the merchant's photos, None unless the file was compared with some."""

    inspection: Inspection
    complete: bool
    alone: Inspection | None = None

    @property
    def with_listing(self) -> bool:
        """True if the file was compared with photos of the merchant's."""
        return self.alone is not None


LISTING_CODES = frozenset({FindingCode.LISTING_SAME.value, FindingCode.LISTING_ALTERED.value})
"""Findings of a comparison with the merchant's photos."""

_LAPSED = frozenset({Trust.EXPIRED, Trust.REVOKED})
"""A signer that was trusted when the report was made may be this by now."""


def bears_out(kind: EvidenceType, inspection: Inspection) -> bool:
    """True if an inspection shows that an item of this kind is what it says.

    A label must identify, which takes a signer on a trust list. That a picture is the merchant's own (`listing_same`)
    is not enough for a listing match: honest people send it to show what they ordered.
    """
    if kind is EvidenceType.AI_LABEL:
        return identifies_ai(inspection.findings, inspection.trust)
    return kind is EvidenceType.LISTING_MATCH and FindingCode.LISTING_ALTERED.value in inspection.findings


def _indicates(kind: EvidenceType, inspection: Inspection) -> bool:
    """True if there are signs that a label is right, of the kind that any person can write."""
    return kind is EvidenceType.AI_LABEL and any(
        CODES[code][1] is About.MADE_BY_AI and strength_of(code, inspection.trust) is Strength.INDICATES
        for code in known_codes(inspection.findings)
    )


def corroborations(
    evidence: Sequence[Evidence], again: Mapping[bytes, Again] | None = None
) -> tuple[Corroboration, ...]:
    """Return for each item how far it is corroborated; `again` has the reviewer's inspections by the SHA-256 of the
    file.

    That an inspection finds nothing contradicts only what the same version of the tool is said to have found in the
    file: what another version or tool saw, this one may not see.
    """
    again_by_sha256 = again or {}
    reported: dict[bytes, list[Inspection]] = {}
    for item in evidence:
        if item.inspection is not None:
            reported.setdefault(item.sha256, []).append(item.inspection)
    return tuple(_support(item, reported.get(item.sha256, []), again_by_sha256.get(item.sha256)) for item in evidence)


def _support(item: Evidence, reported: Sequence[Inspection], again: Again | None) -> Corroboration:
    if item.type not in _SHOWN_BY_INSPECTIONS:
        return Corroboration.TO_BE_READ
    claims = [inspection for inspection in reported if bears_out(item.type, inspection)]
    newest = reported
    if again is not None and (again.with_listing or item.type is not EvidenceType.LISTING_MATCH):
        if bears_out(item.type, again.inspection):
            return Corroboration.FOUND_AGAIN
        if _refutes(again, claims):
            return Corroboration.CONTRADICTED
        claims, newest = [], [again.inspection]
    if not claims and any(speaks_for_person(inspection.findings, inspection.trust) for inspection in newest):
        return Corroboration.CONTRADICTED
    other_tool = _by_another_tool(item.type, item.finding)
    if claims or other_tool is Corroboration.FOUND:
        return Corroboration.FOUND
    if other_tool or any(_indicates(item.type, inspection) for inspection in newest):
        return Corroboration.INDICATED
    return Corroboration.ASSERTED


_SHOWN_BY_INSPECTIONS = frozenset({EvidenceType.AI_LABEL, EvidenceType.LISTING_MATCH})


def _refutes(again: Again, claims: Sequence[Inspection]) -> bool:
    """True if the reviewer's inspection would have to show the findings of these inspections of the same file.

    A trust that lapsed with time refutes no report.
    """
    lapsed = again.inspection.trust in _LAPSED and FindingCode.C2PA_AI_GENERATED.value in again.inspection.findings
    return again.complete and not lapsed and any(inspection.tool == again.inspection.tool for inspection in claims)


def _by_another_tool(kind: EvidenceType, finding: Finding | None) -> Corroboration | None:
    """Return how far another tool's finding goes, None if it is too weak to be shown."""
    if finding is None or finding.strength is Strength.HINT:
        return None
    if kind is EvidenceType.LISTING_MATCH:
        return Corroboration.FOUND
    trusted = finding.strength is Strength.IDENTIFIES and finding.trust in TRUSTED
    return Corroboration.FOUND if trusted else Corroboration.INDICATED


def compare(reported: Inspection, again: Again) -> InspectionComparison:
    """Compare the report's inspection of a file with the reviewer's own one, with the merchant's photos or
    without, whichever is closer: the report does not say whether it was compared with any."""
    inspections = [again.inspection] if again.alone is None else [again.inspection, again.alone]
    closest = min((_beside(reported, item) for item in inspections), key=list(InspectionComparison).index)
    if (
        closest is InspectionComparison.OTHER_FINDINGS
        and again.alone is None
        and not LISTING_CODES.isdisjoint(reported.findings)
    ):
        return InspectionComparison.NO_LISTING
    return closest


def _beside(reported: Inspection, inspected: Inspection) -> InspectionComparison:
    if reported.receipt_sha256 == inspected.receipt_sha256:
        return InspectionComparison.AGREES if reported.trust == inspected.trust else InspectionComparison.OTHER_TRUST
    if reported.tool != inspected.tool:
        return InspectionComparison.OTHER_VERSION
    return (
        InspectionComparison.OTHER_DETAILS
        if reported.findings == inspected.findings
        else InspectionComparison.OTHER_FINDINGS
    )
