"""How far findings bear out what an item of evidence says it is.

A report may claim an `ai_label` or a `listing_match`; whether there is one, an inspection of the file can tell. Of all
other types it cannot: somebody has to read the file. Findings of one file count for every item that names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ledger.core.conduct import Evidence, EvidenceType, Finding, Inspection, known_codes
from ledger.core.findings import CODES, About, FindingCode, Strength


class Support(StrEnum):
    """How far an item is borne out, from best to worst."""

    FOUND_AGAIN = "found_again"
    """A reviewer's own inspection of the file finds it."""
    FOUND = "found"
    """A finding in the report says so, which is the reporter's word until it is made again."""
    TO_BE_READ = "to_be_read"
    """No inspection tells of this type; what the file shows is for a person to judge."""
    ASSERTED = "asserted"
    """An inspection could tell, and no finding says so."""
    CONTRADICTED = "contradicted"
    """What the report says was found is not in the file, or the file says that a camera took it."""


class Comparison(StrEnum):
    """A reviewer's inspection beside the one in the report."""

    AGREES = "agrees"
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


_IDENTIFIES = frozenset(
    code.value for code, meaning in CODES.items() if meaning == (Strength.IDENTIFIES, About.MADE_BY_AI)
)
LISTING_CODES = frozenset({FindingCode.LISTING_SAME.value, FindingCode.LISTING_ALTERED.value})
"""Findings of a comparison with the merchant's photos."""

BORNE_OUT_BY: Mapping[EvidenceType, frozenset[str]] = {
    EvidenceType.AI_LABEL: _IDENTIFIES,
    EvidenceType.LISTING_MATCH: frozenset({FindingCode.LISTING_ALTERED.value}),
}
"""What an inspection must find so that an item is what it says. That a picture is the merchant's own (`listing_same`)
is not enough: honest people send it to show what they ordered."""

_OTHER_TOOLS: Mapping[EvidenceType, frozenset[Strength]] = {
    EvidenceType.AI_LABEL: frozenset({Strength.IDENTIFIES}),
    EvidenceType.LISTING_MATCH: frozenset({Strength.IDENTIFIES, Strength.INDICATES}),
}
"""How far another tool's finding must go."""


def supports(evidence: Sequence[Evidence], again: Mapping[bytes, Again] | None = None) -> tuple[Support, ...]:
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


def _support(item: Evidence, reported: Sequence[Inspection], again: Again | None) -> Support:
    proofs = BORNE_OUT_BY.get(item.type)
    if proofs is None:
        return Support.TO_BE_READ
    claims = [one for one in reported if not proofs.isdisjoint(one.findings)]
    newest = reported
    if again is not None and (again.with_listing or item.type is not EvidenceType.LISTING_MATCH):
        if not proofs.isdisjoint(again.inspection.findings):
            return Support.FOUND_AGAIN
        if again.complete and any(one.tool == again.inspection.tool for one in claims):
            return Support.CONTRADICTED
        claims, newest = [], [again.inspection]
    if not claims and any(speaks_for_person(one.findings) for one in newest):
        return Support.CONTRADICTED
    return Support.FOUND if claims or _by_another_tool(item.type, item.finding) else Support.ASSERTED


def speaks_for_person(found: Sequence[str]) -> bool:
    """Whether one of an inspection's codes says that a camera took it."""
    return any(CODES[code][1] is About.CAPTURED for code in known_codes(found))


def _by_another_tool(kind: EvidenceType, finding: Finding | None) -> bool:
    return finding is not None and finding.strength in _OTHER_TOOLS[kind]


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
        return Comparison.AGREES
    if reported.tool != made.tool:
        return Comparison.OTHER_VERSION
    return Comparison.OTHER_DETAILS if reported.findings == made.findings else Comparison.OTHER_FINDINGS
