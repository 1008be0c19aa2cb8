"""How far findings bear out what an item of evidence says it is.

A report may claim an `ai_label` or a `listing_match`; whether there is one, an inspection of the file can tell. Of all
other types it cannot: somebody has to read the file. Findings of one file count for every item that names it.
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
    """How far an item is borne out, from best to worst."""

    FOUND_AGAIN = "found_again"
    """A reviewer's own inspection of the file finds it."""
    FOUND = "found"
    """A finding in the report says so, which is the reporter's word until it is made again."""
    TO_BE_READ = "to_be_read"
    """No inspection tells of this type; what the file shows is for a person to judge."""
    INDICATED = "indicated"
    """There are signs of it that anybody can write, or make a certificate for."""
    ASSERTED = "asserted"
    """An inspection could tell, and no finding says so."""
    CONTRADICTED = "contradicted"
    """What the report says was found is not in the file, or a camera whose signer is trusted says that it took it."""


class Comparison(StrEnum):
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
        """Whether the file was compared with photos of the merchant's."""
        return self.alone is not None


LISTING_CODES = frozenset({FindingCode.LISTING_SAME.value, FindingCode.LISTING_ALTERED.value})
"""Findings of a comparison with the merchant's photos."""

_LAPSED = frozenset({Trust.EXPIRED, Trust.REVOKED})
"""A signer that was trusted when the report was made may be this by now."""


def bears_out(kind: EvidenceType, found: Inspection) -> bool:
    """Whether an inspection shows that an item of this kind is what it says.

    A label must identify, which takes a signer on a trust list. That a picture is the merchant's own (`listing_same`)
    is not enough for a listing match: honest people send it to show what they ordered.
    """
    if kind is EvidenceType.AI_LABEL:
        return identifies_ai(found.findings, found.trust)
    return kind is EvidenceType.LISTING_MATCH and FindingCode.LISTING_ALTERED.value in found.findings


def _indicates(kind: EvidenceType, found: Inspection) -> bool:
    """Whether there are signs that a label is right, of the kind that anybody can write."""
    return kind is EvidenceType.AI_LABEL and any(
        CODES[code][1] is About.MADE_BY_AI and strength_of(code, found.trust) is Strength.INDICATES
        for code in known_codes(found.findings)
    )


def corroborations(
    evidence: Sequence[Evidence], again: Mapping[bytes, Again] | None = None
) -> tuple[Corroboration, ...]:
    """For each item how far it is borne out; `again` has the reviewer's inspections by the SHA-256 of the file.

    That an inspection finds nothing contradicts only what the same version of the tool is said to have found in the
    file: what another version or tool saw, this one may not see.
    """
    made = again or {}
    reported: dict[bytes, list[Inspection]] = {}
    for item in evidence:
        if item.inspection is not None:
            reported.setdefault(item.sha256, []).append(item.inspection)
    return tuple(_support(item, reported.get(item.sha256, []), made.get(item.sha256)) for item in evidence)


def _support(item: Evidence, reported: Sequence[Inspection], again: Again | None) -> Corroboration:
    if item.type not in _TOLD_BY_INSPECTIONS:
        return Corroboration.TO_BE_READ
    claims = [one for one in reported if bears_out(item.type, one)]
    newest = reported
    if again is not None and (again.with_listing or item.type is not EvidenceType.LISTING_MATCH):
        if bears_out(item.type, again.inspection):
            return Corroboration.FOUND_AGAIN
        if _refutes(again, claims):
            return Corroboration.CONTRADICTED
        claims, newest = [], [again.inspection]
    if not claims and any(speaks_for_person(one.findings, one.trust) for one in newest):
        return Corroboration.CONTRADICTED
    told = _by_another_tool(item.type, item.finding)
    if claims or told is Corroboration.FOUND:
        return Corroboration.FOUND
    return (
        Corroboration.INDICATED if told or any(_indicates(item.type, one) for one in newest) else Corroboration.ASSERTED
    )


_TOLD_BY_INSPECTIONS = frozenset({EvidenceType.AI_LABEL, EvidenceType.LISTING_MATCH})


def _refutes(again: Again, claims: Sequence[Inspection]) -> bool:
    """Whether the file would have to show here what these inspections of it are said to have found. A trust that lapses
    with time proves nobody wrong."""
    lapsed = again.inspection.trust in _LAPSED and FindingCode.C2PA_AI_GENERATED.value in again.inspection.findings
    return again.complete and not lapsed and any(one.tool == again.inspection.tool for one in claims)


def _by_another_tool(kind: EvidenceType, finding: Finding | None) -> Corroboration | None:
    """How far another tool's finding goes, None if not far enough to be shown."""
    if finding is None or finding.strength is Strength.HINT:
        return None
    if kind is EvidenceType.LISTING_MATCH:
        return Corroboration.FOUND
    trusted = finding.strength is Strength.IDENTIFIES and finding.trust in TRUSTED
    return Corroboration.FOUND if trusted else Corroboration.INDICATED


def compare(reported: Inspection, again: Again) -> Comparison:
    """The report's inspection of a file beside the one that was made of it again, with the merchant's photos or
    without, whichever comes closer: the report does not say whether it was compared with any."""
    made = [again.inspection] if again.alone is None else [again.inspection, again.alone]
    found = min((_beside(reported, one) for one in made), key=list(Comparison).index)
    if found is Comparison.OTHER_FINDINGS and again.alone is None and not LISTING_CODES.isdisjoint(reported.findings):
        return Comparison.NO_LISTING
    return found


def _beside(reported: Inspection, made: Inspection) -> Comparison:
    if reported.receipt_sha256 == made.receipt_sha256:
        return Comparison.AGREES if reported.trust == made.trust else Comparison.OTHER_TRUST
    if reported.tool != made.tool:
        return Comparison.OTHER_VERSION
    return Comparison.OTHER_DETAILS if reported.findings == made.findings else Comparison.OTHER_FINDINGS
