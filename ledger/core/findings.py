"""What an inspection of a file can find: stable codes, how far each goes, and what it is about.

Reports carry these codes and the intake rule looks at them, so they stand in the core; `ledger.evidence` finds them in
files. `identifies` is kept for a statement about the whole picture by an issuer whom the reporter cannot impersonate: a
C2PA manifest that is bound to these very bytes and signed under a shipped trust list. The strength of every other code
is the same in every file: what anybody can write indicates at most; what honest people's files have too is a hint. The
reasons stand in `docs/evidence.md` one by one, and a test keeps its table equal to this one.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Strength(StrEnum):
    """How far a finding of an inspection goes."""

    IDENTIFIES = "identifies"
    INDICATES = "indicates"
    HINT = "hint"


class About(StrEnum):
    """What a finding speaks to."""

    MADE_BY_AI = "made_by_ai"
    EDITED_WITH_AI = "edited_with_ai"
    ALTERED = "altered"
    DERIVED = "derived"
    """The picture was made from another one, the merchant's."""
    CAPTURED = "captured"
    """It speaks for the person: the file says that a camera took it."""


class Trust(StrEnum):
    """What stands behind the signature of a C2PA manifest, from best to worst."""

    LISTED = "listed"
    """The certificate was issued under the official C2PA trust list."""
    INTERIM = "interim"
    """It was issued under the former interim list, and the signature is shown to be from before that list's end."""
    UNLISTED = "unlisted"
    """It is under no list that counts here: anybody can make such a certificate, in any name."""
    EXPIRED = "expired"
    """It was out of date, and no trusted time stamp shows that it was valid when it signed."""
    INVALID = "invalid"
    """It is none that may sign, or the signature does not verify."""
    REVOKED = "revoked"
    """Its issuer has taken it back."""


TRUSTED = frozenset({Trust.LISTED, Trust.INTERIM})
"""Behind these stands an issuer whom nobody else can impersonate."""


class FindingCode(StrEnum):
    """Stable codes; reports carry them."""

    AIGC_GENERATED = "aigc_generated"
    C2PA_AI_GENERATED = "c2pa_ai_generated"
    AIGC_GENERATED_DEFECTIVE = "aigc_generated_defective"
    AIGC_POSSIBLE = "aigc_possible"
    AIGC_SUSPECTED = "aigc_suspected"
    AIGC_CONFLICT = "aigc_conflict"
    AIGC_EMPTIED = "aigc_emptied"
    C2PA_AI_GENERATED_UNBOUND = "c2pa_ai_generated_unbound"
    C2PA_AI_EDITED = "c2pa_ai_edited"
    C2PA_HASH_MISMATCH = "c2pa_hash_mismatch"
    C2PA_SIGNATURE_INVALID = "c2pa_signature_invalid"
    C2PA_CAPTURED = "c2pa_captured"
    C2PA_MANIFEST_MISSING = "c2pa_manifest_missing"
    IPTC_AI_GENERATED = "iptc_ai_generated"
    IPTC_AI_EDITED = "iptc_ai_edited"
    IPTC_ALGORITHMIC = "iptc_algorithmic"
    GENERATOR_PARAMETERS = "generator_parameters"
    GENERATOR_WORKFLOW = "generator_workflow"
    GENERATOR_NAMED = "generator_named"
    WORKFLOW_WITHOUT_SAMPLER = "workflow_without_sampler"
    METADATA_REMOVED = "metadata_removed"
    EDITING_SOFTWARE = "editing_software"
    EDIT_HISTORY = "edit_history"
    THUMBNAIL_DIFFERS = "thumbnail_differs"
    SIZE_DIFFERS = "size_differs"
    SAVED_BY_SOFTWARE = "saved_by_software"
    LISTING_ALTERED = "listing_altered"
    LISTING_SAME = "listing_same"


_I, _S, _H = Strength.IDENTIFIES, Strength.INDICATES, Strength.HINT
_MADE, _EDITED, _ALTERED = About.MADE_BY_AI, About.EDITED_WITH_AI, About.ALTERED
_C = FindingCode
CODES: dict[FindingCode, tuple[Strength, About]] = {
    _C.AIGC_GENERATED: (_S, _MADE),
    _C.C2PA_AI_GENERATED: (_I, _MADE),
    _C.AIGC_GENERATED_DEFECTIVE: (_S, _MADE),
    _C.AIGC_POSSIBLE: (_S, _MADE),
    _C.AIGC_SUSPECTED: (_H, _MADE),
    _C.AIGC_CONFLICT: (_H, _ALTERED),
    _C.AIGC_EMPTIED: (_H, _ALTERED),
    _C.C2PA_AI_GENERATED_UNBOUND: (_S, _MADE),
    _C.C2PA_AI_EDITED: (_S, _EDITED),
    _C.C2PA_HASH_MISMATCH: (_S, _ALTERED),
    _C.C2PA_SIGNATURE_INVALID: (_S, _ALTERED),
    _C.C2PA_CAPTURED: (_S, About.CAPTURED),
    _C.C2PA_MANIFEST_MISSING: (_H, _ALTERED),
    _C.IPTC_AI_GENERATED: (_S, _MADE),
    _C.IPTC_AI_EDITED: (_S, _EDITED),
    _C.IPTC_ALGORITHMIC: (_H, _MADE),
    _C.GENERATOR_PARAMETERS: (_S, _MADE),
    _C.GENERATOR_WORKFLOW: (_S, _MADE),
    _C.GENERATOR_NAMED: (_S, _MADE),
    _C.WORKFLOW_WITHOUT_SAMPLER: (_H, _EDITED),
    _C.METADATA_REMOVED: (_H, _ALTERED),
    _C.EDITING_SOFTWARE: (_H, _ALTERED),
    _C.EDIT_HISTORY: (_H, _ALTERED),
    _C.THUMBNAIL_DIFFERS: (_H, _ALTERED),
    _C.SIZE_DIFFERS: (_H, _ALTERED),
    _C.SAVED_BY_SOFTWARE: (_H, _ALTERED),
    _C.LISTING_ALTERED: (_S, About.DERIVED),
    _C.LISTING_SAME: (_H, About.DERIVED),
}
"""For each code how far it goes at most (`strength_of` says how far in a file), and what it is about."""

SIGNED = frozenset({_C.C2PA_AI_GENERATED, _C.C2PA_AI_EDITED, _C.C2PA_CAPTURED})
"""Statements of a bound manifest, which are worth what its signer is worth: they come with a `Trust`."""


def strength_of(code: FindingCode, trust: Trust | None) -> Strength:
    """How far a finding goes, given the trust in the signer that it rests on (None for what nobody signed)."""
    most = CODES[code][0]
    return Strength.INDICATES if most is Strength.IDENTIFIES and trust not in TRUSTED else most


def weakest(trusts: Iterable[Trust]) -> Trust | None:
    """The worst of these, None if there are none: a chain of manifests is as good as its worst signature."""
    return max(trusts, key=list(Trust).index, default=None)


def identifies_ai(codes: Iterable[str], trust: Trust | None) -> bool:
    """Whether an inspection with these codes identifies its file as made by AI."""
    return FindingCode.C2PA_AI_GENERATED.value in codes and trust in TRUSTED


def speaks_for_person(codes: Iterable[str], trust: Trust | None) -> bool:
    """Whether an inspection with these codes has a camera's word that counts: one of a signer who is on a list."""
    return FindingCode.C2PA_CAPTURED.value in codes and trust in TRUSTED
