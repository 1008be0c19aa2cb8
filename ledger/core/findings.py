"""What an inspection of a file can find: stable codes, how far each goes, and what it is about.

Reports carry these codes and the intake rule looks at them, so they stand in the core; `ledger.evidence` finds them in
files. The strength belongs to the code, never to a file: `identifies` is kept for statements about the whole picture by
an issuer who can be asked, namely China's label that names producer and content number, and a C2PA manifest that is
bound to these very bytes. What names nobody indicates at most; what honest people's files have too is a hint. The
reasons stand in `docs/evidence.md` one by one, and a test keeps its table equal to this one.
"""

from __future__ import annotations

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
    _C.AIGC_GENERATED: (_I, _MADE),
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
