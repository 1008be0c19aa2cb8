"""What a C2PA manifest store says about a picture's origin, and whether the file still agrees with it (C2PA 2.x).

Pure, and tolerant of any JSON: the store comes from a file. There are three separate questions. What do the manifests
say (actions and their digitalSourceType, from the active manifest back through its parents)? Are these bytes the ones
that were signed (hash and signature codes)? Who signed (`signers`)? The last decides how far a statement goes: it is a
fact of the finding, `trust`, the weakest of all signatures between these bytes and the statement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ledger.evidence.findings import InspectionFinding, finding
from ledger.evidence.formats.metadata import NoteCode, ParsedFile
from ledger.evidence.sandbox.c2pa import C2paAnswer
from ledger.evidence.signals.signers import Times, TrustLists, recorded_trust, trust_of
from ledger.evidence.signals.source_types import AI_COMPOSITES, AI_MADE, CAPTURES, source_type
from ledger.rules.findings import FindingCode, Trust, weakest

_MAX_DEPTH = 16
_HASHES = frozenset({"assertion.dataHash.match", "assertion.bmffHash.match", "assertion.boxesHash.match"})
_HASH_MISMATCHES = frozenset(code.replace(".match", ".mismatch") for code in _HASHES)
_SIGNED = "claimSignature.validated"
_IDENTITY = "cawg."
"""Codes of the Creator Assertions Working Group's identity assertions: about a person whom the manifest names beside
its signer, not about the signature or the bytes."""

_CREDENTIAL = ("signingCredential.", "timeStamp.", "timeOfSigning.", "claimSignature.outsideValidity", _IDENTITY)
_REFUSED_CREDENTIAL = ("signingCredential.invalid", "signingCredential.revoked", "signingCredential.ocsp.revoked")
_METADATA = ("stds.iptc", "c2pa.metadata", "cawg.metadata", "stds.schema-org.CreativeWork")
_SOURCE_KEYS = ("Iptc4xmpExt:DigitalSourceType", "iptcExt:DigitalSourceType", "digitalSourceType")
_ORIGINS = frozenset({"c2pa.created"})


def judge(answer: C2paAnswer, parsed: ParsedFile, lists: TrustLists, times: Times) -> list[InspectionFinding]:
    """Return the findings from a manifest store, judged by these trust lists."""
    store = answer.store
    manifests = _object(store.get("manifests"))
    label = str(store.get("active_manifest"))
    active = _object(manifests.get(label))
    codes = _codes(store)
    _note_credentials(codes, parsed, answer.where)
    results = _integrity(codes, active, answer.where)
    said = _said(_Story(manifests, answer.signatures, lists, times), label)
    for statement in said:
        results += _about_origin(statement, codes, answer.where)
    if not said:
        parsed.note(NoteCode.C2PA_NO_SOURCE, answer.where, " ".join(_generators(active)))
    return results


def _note_credentials(codes: _Codes, parsed: ParsedFile, where: str) -> None:
    identity = [code for code in codes.credential if code.startswith(_IDENTITY)]
    refused = [code for code in codes.credential if code in _REFUSED_CREDENTIAL]
    others = [code for code in codes.credential if code not in {*identity, *refused}]
    for note, item in (
        (NoteCode.C2PA_CREDENTIAL, others),
        (NoteCode.C2PA_CREDENTIAL_REFUSED, refused),
        (NoteCode.C2PA_IDENTITY, identity),
    ):
        if item:
            parsed.note(note, where, " ".join(item))


@dataclass(slots=True)
class _Codes:
    """Validation codes of the active manifest, and whether its ancestors have faults."""

    success: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)
    credential: list[str] = field(default_factory=list)
    ancestors_broken: list[str] = field(default_factory=list)

    @property
    def bound(self) -> bool:
        """True if the signature is valid and covers the hash of these bytes."""
        return _SIGNED in self.success and bool(self.success & _HASHES) and not self.broken


def _codes(store: dict[str, Any]) -> _Codes:
    results = _object(store.get("validation_results"))
    active = _object(results.get("activeManifest"))
    codes = _Codes(success=set(_code_list(active.get("success"))))
    failures = _code_list(active.get("failure"))
    if not results:
        failures = _code_list(store.get("validation_status"))
    codes.credential = sorted({code for code in failures if code.startswith(_CREDENTIAL)})
    codes.broken = sorted({code for code in failures if not code.startswith(_CREDENTIAL)})
    for delta in _list(results.get("ingredientDeltas")):
        failed = _code_list(_object(_object(delta).get("validationDeltas")).get("failure"))
        codes.ancestors_broken += [code for code in failed if not code.startswith(_CREDENTIAL)]
    return codes


def _code_list(value: Any) -> list[str]:
    return [item["code"][:100] for item in _list(value) if isinstance(item, dict) and isinstance(item.get("code"), str)]


def _integrity(codes: _Codes, active: dict[str, Any], where: str) -> list[InspectionFinding]:
    results = []
    signer = _signer(active)
    mismatches = [code for code in codes.broken if code in _HASH_MISMATCHES]
    others = [code for code in codes.broken if code not in _HASH_MISMATCHES]
    if mismatches:
        results.append(finding(FindingCode.C2PA_HASH_MISMATCH, where, validation=mismatches, **signer))
    if others:
        results.append(finding(FindingCode.C2PA_SIGNATURE_INVALID, where, validation=others, **signer))
    return results


@dataclass(frozen=True, slots=True)
class _Statement:
    """A manifest's statement about the origin of the picture, or about one step of its making."""

    source: str
    is_origin: bool
    agent: str
    manifest: dict[str, Any]
    depth: int
    trust: Trust | None
    broken: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Story:
    """The manifests of a store and what is needed to say who signed them."""

    manifests: dict[str, Any]
    signatures: dict[str, Any]
    lists: TrustLists
    times: Times

    def manifest(self, label: str) -> dict[str, Any]:
        return _object(self.manifests.get(label))

    def trust(self, label: str, ingredient: dict[str, Any] | None, above: Trust | None) -> Trust:
        """Return the weaker of `above`, the trust in the signer that took this manifest in as an ingredient, and its
        own."""
        signature = _object(self.signatures.get(label))
        if ingredient is None or above is None:
            return trust_of(signature, self.lists, self.times)
        recorded = _object(_object(ingredient.get("validation_results")).get("activeManifest"))
        own = recorded_trust(signature, recorded, above, self.lists, self.times)
        return weakest((above, own)) or own


def _said(story: _Story, label: str) -> list[_Statement]:
    """Return the statements from the active manifest back to the picture's origin; one of each type."""
    kept: dict[FindingCode, _Statement] = {}
    for statement in _history(story, label):
        code = _meaning(statement)
        if code is not None and (code not in kept or (kept[code].trust is None and statement.trust is not None)):
            kept[code] = statement
    if kept.keys() & {FindingCode.C2PA_AI_GENERATED, FindingCode.C2PA_AI_EDITED}:
        kept.pop(FindingCode.C2PA_CAPTURED, None)
    return list(kept.values())


def _meaning(statement: _Statement) -> FindingCode | None:
    if statement.source in AI_MADE and statement.is_origin:
        return FindingCode.C2PA_AI_GENERATED
    if statement.source in AI_MADE | AI_COMPOSITES:
        return FindingCode.C2PA_AI_EDITED
    if statement.source in CAPTURES and statement.is_origin:
        return FindingCode.C2PA_CAPTURED
    return None


def _about_origin(statement: _Statement, codes: _Codes, where: str) -> Iterator[InspectionFinding]:
    code = _meaning(statement)
    assert code is not None  # only those are kept
    broken = [*codes.broken, *statement.broken]
    if statement.depth:
        broken += codes.ancestors_broken
    bound = codes.bound and not broken
    if not bound and code is FindingCode.C2PA_CAPTURED:
        return  # a camera's statement about other bytes is no statement about these
    if not bound and code is FindingCode.C2PA_AI_GENERATED:
        code = FindingCode.C2PA_AI_GENERATED_UNBOUND
    hashes = sorted(codes.success & (_HASHES | {_SIGNED}))
    yield finding(
        code,
        where,
        source_type=statement.source,
        software=statement.agent,
        generator=" ".join(_generators(statement.manifest)),
        depth=statement.depth,
        validation=sorted({*broken}) or hashes,
        trust=statement.trust.value if bound and statement.trust is not None else None,
        **_signer(statement.manifest),
    )


def _history(story: _Story, label: str) -> Iterator[_Statement]:
    depth, broken = 0, tuple[str, ...]()
    manifest, trust = story.manifest(label), story.trust(label, None, None)
    seen: list[int] = []
    while manifest and depth <= _MAX_DEPTH and id(manifest) not in seen:
        seen.append(id(manifest))
        for source, is_origin, agent, by_signer in _sources(manifest):
            yield _Statement(source, is_origin, agent, manifest, depth, trust if by_signer else None, broken)
        parent: dict[str, Any] = {}
        above = trust
        for ingredient in map(_object, _list(manifest.get("ingredients"))):
            name = str(ingredient.get("active_manifest"))
            below = story.manifest(name)
            if ingredient.get("relationship") == "parentOf":
                parent, broken = below, broken + _recorded_faults(ingredient)
                trust = story.trust(name, ingredient, above)
            elif ingredient.get("relationship") == "componentOf":
                # Something of AI is in the picture; the picture as a whole is not made by it.
                below_trust = story.trust(name, ingredient, above)
                for source, _, agent, by_signer in _sources(below):
                    if source in AI_MADE | AI_COMPOSITES:
                        own = below_trust if by_signer else None
                        yield _Statement(source, False, agent, below, depth + 1, own, broken)
        manifest, depth = parent, depth + 1


def _recorded_faults(ingredient: dict[str, Any]) -> tuple[str, ...]:
    """Return the faults that the signer recorded when the ingredient was taken in."""
    recorded = _object(_object(ingredient.get("validation_results")).get("activeManifest"))
    failed = _code_list(recorded.get("failure")) + _code_list(ingredient.get("validation_status"))
    return tuple(code for code in failed if not code.startswith(_CREDENTIAL))


def _sources(manifest: dict[str, Any]) -> Iterator[tuple[str, bool, str, bool]]:
    """Yield (source type, whether it is the picture's origin, software, whether the signer says it) of each action and
    metadata assertion.

    Metadata is copied from the file that was signed: any person may have written it there, and no signer is responsible
    for it.
    """
    for assertion in map(_object, _list(manifest.get("assertions"))):
        label, data = str(assertion.get("label")), _object(assertion.get("data"))
        if label.startswith("c2pa.actions"):
            for action in map(_object, _list(data.get("actions"))):
                source = source_type(str(action.get("digitalSourceType") or ""))
                if source:
                    yield source, action.get("action") in _ORIGINS, _agent(action), True
        elif label.startswith(_METADATA):
            for key in _SOURCE_KEYS:
                source = source_type(str(data.get(key) or ""))
                if source:
                    yield source, True, "", False


def _agent(action: dict[str, Any]) -> str:
    agent = action.get("softwareAgent")
    return str(_object(agent).get("name") or "") if isinstance(agent, dict) else str(agent or "")


def _signer(manifest: dict[str, Any]) -> dict[str, str]:
    info = _object(manifest.get("signature_info"))
    facts = {"signer": info.get("issuer"), "certificate": info.get("common_name"), "signed_at": info.get("time")}
    return {name: str(value) for name, value in facts.items() if value}


def _generators(manifest: dict[str, Any]) -> list[str]:
    named = [str(_object(item).get("name") or "") for item in _list(manifest.get("claim_generator_info"))]
    return [item for item in named if item] or [str(manifest.get("claim_generator") or "")]


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
