"""The findings of an inspection: stable codes, the strength of each, and its subject.

Reports carry these codes and the intake rule reads them, so they are in this package; `ledger.evidence` finds them in
files. `identifies` is only for a statement about the whole picture by an issuer whom the reporter cannot impersonate: a
C2PA manifest that is bound to these very bytes and signed under a shipped trust list. The strength of every other code
is the same in every file: a finding without an accountable issuer is at most `indicates`, and one that also occurs in
honest files is a `hint`. `docs/evidence.md` gives the reason for each, and a test keeps its table equal to this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ledger.protocol.row_enum import RowEnum


class Strength(StrEnum):
    """How far a finding of an inspection goes."""

    IDENTIFIES = "identifies"
    INDICATES = "indicates"
    HINT = "hint"


class About(StrEnum):
    """The subject of a finding."""

    MADE_BY_AI = "made_by_ai"
    EDITED_WITH_AI = "edited_with_ai"
    ALTERED = "altered"
    DERIVED = "derived"
    """The picture was made from another one, the merchant's."""
    CAPTURED = "captured"
    """It speaks for the person: the file says that a camera took it."""


class Trust(StrEnum):
    """The trust in the signer of a C2PA manifest, from best to worst."""

    LISTED = "listed"
    """The certificate was issued under the official C2PA trust list."""
    INTERIM = "interim"
    """It was issued under the former interim list, and the signature is shown to be from before that list's end."""
    UNLISTED = "unlisted"
    """It is under no list that counts here: any person can make such a certificate, in any name."""
    EXPIRED = "expired"
    """It was out of date, and no trusted time stamp shows that it was valid when it signed."""
    INVALID = "invalid"
    """It is none that may sign, or the signature does not verify."""
    REVOKED = "revoked"
    """Its issuer has taken it back."""


TRUSTED = frozenset({Trust.LISTED, Trust.INTERIM})
"""Levels of trust with an issuer that no other party can impersonate."""


def _(message: str) -> str:
    """Return `message` itself, marked for the catalogues."""
    return message


@dataclass(frozen=True, slots=True)
class SignalSpec:
    """The definition of one signal in a file, except how it is read. All texts are msgids.

    `strength` is how far it goes at most (`strength_of` says how far in a file), `about` its subject. `signed`: it
    is a statement of a bound C2PA manifest, as reliable as its signer, and has a `Trust`.
    `title` is the signal in a few words without facts of a file, `shows` a sentence with its facts as %(name)s,
    `limit` what it does not show.
    """

    code: str
    strength: Strength
    about: About
    title: str
    shows: str
    limit: str
    signed: bool = False


_I, _S, _H = Strength.IDENTIFIES, Strength.INDICATES, Strength.HINT


class FindingCode(RowEnum):
    """Stable codes; reports carry them."""

    # One row each. A further signal is a row here, its reader in `ledger.evidence`, its texts in the catalogues and a
    # row in `docs/evidence.md`.
    spec: SignalSpec

    AIGC_GENERATED = SignalSpec(
        code="aigc_generated",
        strength=_S,
        about=About.MADE_BY_AI,
        title=_("China’s label: made by AI"),
        shows=_(
            "A complete label by China’s standard GB 45438-2025 says that this was made by AI. Producer: "
            "%(producer)s; content number: %(produce_id)s. The label is not signed: anybody can write it."
        ),
        limit=_(
            "It does not show that the named producer made it, or all of it: anybody can write the label, and it also "
            "stands for editing by AI."
        ),
    )
    C2PA_AI_GENERATED = SignalSpec(
        code="c2pa_ai_generated",
        strength=_I,
        about=About.MADE_BY_AI,
        title=_("Signed manifest: made by AI"),
        shows=_(
            "A signed C2PA manifest says that this was made by AI (%(software)s), and its hash fits these bytes. It "
            "is signed in the name of “%(signer)s”. %(trust)s"
        ),
        limit=_("It does not show who had it made, or what they knew."),
        signed=True,
    )
    AIGC_GENERATED_DEFECTIVE = SignalSpec(
        code="aigc_generated_defective",
        strength=_S,
        about=About.MADE_BY_AI,
        title=_("China’s label, defective: made by AI"),
        shows=_(
            "A label by China’s standard GB 45438-2025 is there and defective (%(problems)s). It says: label "
            "%(label)s, producer %(producer)s."
        ),
        limit=_("It is no label that a validator would accept."),
    )
    AIGC_POSSIBLE = SignalSpec(
        code="aigc_possible",
        strength=_S,
        about=About.MADE_BY_AI,
        title=_("China’s label: possibly made by AI"),
        shows=_(
            "A label by China’s standard GB 45438-2025 says “possibly made by AI”: whoever uploaded it declared so to "
            "%(propagator)s."
        ),
        limit=_("It does not show that the platform checked what the uploader declared."),
    )
    AIGC_SUSPECTED = SignalSpec(
        code="aigc_suspected",
        strength=_H,
        about=About.MADE_BY_AI,
        title=_("China’s label: suspected to be made by AI"),
        shows=_(
            "A label by China’s standard GB 45438-2025 says “suspected to be made by AI”: that is the guess of "
            "%(propagator)s."
        ),
        limit=_("A detector’s guess is no evidence."),
    )
    AIGC_CONFLICT = SignalSpec(
        code="aigc_conflict",
        strength=_H,
        about=About.ALTERED,
        title=_("Labels that contradict each other"),
        shows=_("Labels in different places of the file contradict each other, so none of them is relied on."),
        limit=_("It does not show which of the labels is right."),
    )
    AIGC_EMPTIED = SignalSpec(
        code="aigc_emptied",
        strength=_H,
        about=About.ALTERED,
        title=_("An empty place for China’s label"),
        shows=_("There is a place for China’s AI label in the file, and no label in it."),
        limit=_("It does not show that there ever was a label: some programs write it empty."),
    )
    C2PA_AI_GENERATED_UNBOUND = SignalSpec(
        code="c2pa_ai_generated_unbound",
        strength=_S,
        about=About.MADE_BY_AI,
        title=_("Manifest not bound to this file: made by AI"),
        shows=_(
            "A C2PA manifest says “made by AI” (%(software)s), but is not bound to these bytes (%(validation)s): the "
            "file was changed after signing, or the manifest belongs to another file."
        ),
        limit=_("It does not show that it was about this picture: it may have been moved here."),
    )
    C2PA_AI_EDITED = SignalSpec(
        code="c2pa_ai_edited",
        strength=_S,
        about=About.EDITED_WITH_AI,
        title=_("Manifest: a part made or changed with AI"),
        shows=_(
            "A C2PA manifest says that a part of this was made or changed with AI (%(software)s). Some phones write "
            "this for zoom or an eraser. %(trust)s"
        ),
        limit=_("It does not show fraud: phones write this for zoom and erasers."),
        signed=True,
    )
    C2PA_HASH_MISMATCH = SignalSpec(
        code="c2pa_hash_mismatch",
        strength=_S,
        about=About.ALTERED,
        title=_("Changed after it was signed"),
        shows=_(
            "The C2PA manifest was signed for other bytes (%(validation)s): the file was changed afterwards. Resizing "
            "by a chat or a website does that too."
        ),
        limit=_("It does not show what changed, or who did it: any program that rewrites a file does this."),
    )
    C2PA_SIGNATURE_INVALID = SignalSpec(
        code="c2pa_signature_invalid",
        strength=_S,
        about=About.ALTERED,
        title=_("Manifest damaged, incomplete or forged"),
        shows=_(
            "The C2PA manifest does not pass validation (%(validation)s), so what it says is not relied on. Damage, "
            "tampering and faults of software all look like this."
        ),
        limit=_("It does not show intent: software has faults."),
    )
    C2PA_CAPTURED = SignalSpec(
        code="c2pa_captured",
        strength=_S,
        about=About.CAPTURED,
        title=_("Manifest: taken by a camera"),
        shows=_(
            "A C2PA manifest, signed in the name of “%(signer)s”, says that a camera took this. %(trust)s "
            "%(for_person)s"
        ),
        limit=_("It does not show that the scene was real: a screen can be photographed."),
        signed=True,
    )
    C2PA_MANIFEST_MISSING = SignalSpec(
        code="c2pa_manifest_missing",
        strength=_H,
        about=About.ALTERED,
        title=_("A manifest that is gone"),
        shows=_("The file refers to a C2PA manifest inside it, which is no longer there."),
        limit=_("It does not show that somebody took it out on purpose: many programs drop it."),
    )
    IPTC_AI_GENERATED = SignalSpec(
        code="iptc_ai_generated",
        strength=_S,
        about=About.MADE_BY_AI,
        title=_("IPTC field: made by AI"),
        shows=_("The IPTC source type says “made by a trained model”. It is not signed and names nobody."),
        limit=_("It does not show who says so: it is not signed and names nobody."),
    )
    IPTC_AI_EDITED = SignalSpec(
        code="iptc_ai_edited",
        strength=_S,
        about=About.EDITED_WITH_AI,
        title=_("IPTC field: changed with AI"),
        shows=_(
            "The IPTC source type says “composite with parts made by a trained model”: a picture of something else, "
            "changed or extended by AI."
        ),
        limit=_("It does not show that the damage is what was changed."),
    )
    IPTC_ALGORITHMIC = SignalSpec(
        code="iptc_algorithmic",
        strength=_H,
        about=About.MADE_BY_AI,
        title=_("IPTC field: made by an algorithm"),
        shows=_("The IPTC source type says “made by an algorithm”, which need not be AI."),
        limit=_("It does not show AI: charts are made by algorithms too."),
    )
    GENERATOR_PARAMETERS = SignalSpec(
        code="generator_parameters",
        strength=_S,
        about=About.MADE_BY_AI,
        title=_("Parameters of an image generator"),
        shows=_("Generation parameters of an image generator stand in the file. %(parameters)s"),
        limit=_("It does not show that all of it was made: the same programs retouch photos."),
    )
    GENERATOR_WORKFLOW = SignalSpec(
        code="generator_workflow",
        strength=_S,
        about=About.MADE_BY_AI,
        title=_("Workflow of an image generator"),
        shows=_("A workflow of an image generator with a sampling step stands in the file (%(samplers)s)."),
        limit=_("It does not show that all of it was made: the same programs retouch photos."),
    )
    GENERATOR_NAMED = SignalSpec(
        code="generator_named",
        strength=_S,
        about=About.MADE_BY_AI,
        title=_("A field that names an image generator"),
        shows=_("A software field names an image generator: %(name)s."),
        limit=_("It shows no more than the name."),
    )
    WORKFLOW_WITHOUT_SAMPLER = SignalSpec(
        code="workflow_without_sampler",
        strength=_H,
        about=About.EDITED_WITH_AI,
        title=_("Workflow that generates nothing"),
        shows=_(
            "A workflow of an image generator without a sampling step stands in the file: it may only have resized it."
        ),
        limit=_("It does not show that anything was made: it may only have been resized."),
    )
    METADATA_REMOVED = SignalSpec(
        code="metadata_removed",
        strength=_H,
        about=About.ALTERED,
        title=_("Metadata taken out"),
        shows=_("The file announces metadata that is not there (%(missing)s): something took it out."),
        limit=_("It does not show what it was, or who took it out."),
    )
    EDITING_SOFTWARE = SignalSpec(
        code="editing_software",
        strength=_H,
        about=About.ALTERED,
        title=_("Saved by an editor"),
        shows=_("A software field names an editor: %(name)s. Cropping and brightening leave it too."),
        limit=_("It shows no more than that it was saved there: cropping leaves it too."),
    )
    EDIT_HISTORY = SignalSpec(
        code="edit_history",
        strength=_H,
        about=About.ALTERED,
        title=_("Saved several times"),
        shows=_("The file’s own history lists %(steps)s times of saving."),
        limit=_("It does not show what was done."),
    )
    THUMBNAIL_DIFFERS = SignalSpec(
        code="thumbnail_differs",
        strength=_H,
        about=About.ALTERED,
        title=_("The small picture inside shows something else"),
        shows=_(
            "The small picture inside the file does not show what the picture shows (agreement "
            "%(correlation_percent)s%%). Some programs crop and forget it."
        ),
        limit=_("It does not show a forgery: some programs crop or mirror and forget it."),
    )
    SIZE_DIFFERS = SignalSpec(
        code="size_differs",
        strength=_H,
        about=About.ALTERED,
        title=_("Another size than the camera wrote down"),
        shows=_("The camera wrote down %(said)s pixels, the picture has %(real)s: it was resized or cropped."),
        limit=_("It shows no more than resizing or cropping."),
    )
    SAVED_BY_SOFTWARE = SignalSpec(
        code="saved_by_software",
        strength=_H,
        about=About.ALTERED,
        title=_("Compression that this camera rarely uses"),
        shows=_(
            "The compression is the standard one (quality %(quality)s), which most cameras of %(maker)s do not use: "
            "software probably saved it again."
        ),
        limit=_("It shows little: small cameras do it too."),
    )
    LISTING_ALTERED = SignalSpec(
        code="listing_altered",
        strength=_S,
        about=About.DERIVED,
        title=_("The merchant’s photo, altered"),
        shows=_(
            "The picture was made from the merchant’s photo: %(overlap_percent)s%% of the picture is that photo, and "
            "%(changed_percent)s%% of that was changed (left, top, width, height in pixels: %(changed_box)s). Look at "
            "what was changed: arrows and watermarks are changes too. Who changed it is not said."
        ),
        limit=_("It does not show who altered it, or why."),
    )
    LISTING_SAME = SignalSpec(
        code="listing_same",
        strength=_H,
        about=About.DERIVED,
        title=_("The same as the merchant’s photo"),
        shows=_(
            "The picture is the merchant’s photo, whole or in part, and no change was found in it. Honest people send "
            "it too, to show what they ordered."
        ),
        limit=_("It does not show fraud: honest people send that photo to say what they ordered."),
    )


CODES: Mapping[FindingCode, tuple[Strength, About]] = {
    code: (code.spec.strength, code.spec.about) for code in FindingCode
}
"""For each code how far it goes at most (`strength_of` says how far in a file), and what it is about."""

SIGNED = frozenset(code for code in FindingCode if code.spec.signed)
"""Statements of a bound manifest, which are as reliable as its signer: they have a `Trust`."""

_IDENTIFYING = frozenset(code for code in FindingCode if CODES[code] == (Strength.IDENTIFIES, About.MADE_BY_AI))
_CAPTURED = frozenset(code for code in FindingCode if code.spec.about is About.CAPTURED)


def strength_of(code: FindingCode, trust: Trust | None) -> Strength:
    """Return how far a finding goes, given the trust in its signer (None for an unsigned statement)."""
    most = code.spec.strength
    return Strength.INDICATES if most is Strength.IDENTIFIES and trust not in TRUSTED else most


def weakest(trusts: Iterable[Trust]) -> Trust | None:
    """Return the worst of these, None if there are none: a chain of manifests is as reliable as its worst signature."""
    return max(trusts, key=list(Trust).index, default=None)


def identifies_ai(codes: Iterable[str], trust: Trust | None) -> bool:
    """True if an inspection with these codes identifies its file as made by AI."""
    return not _IDENTIFYING.isdisjoint(codes) and trust in TRUSTED


def speaks_for_person(codes: Iterable[str], trust: Trust | None) -> bool:
    """True if an inspection with these codes has a camera's statement that counts: its signer is on a list."""
    return not _CAPTURED.isdisjoint(codes) and trust in TRUSTED
