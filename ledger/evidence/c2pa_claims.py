"""What a C2PA manifest store says about a picture's origin, and how far the file still bears it out (C2PA 2.x).

Pure, and tolerant of any JSON: the store comes from a file. Three questions are kept apart. What do the manifests say
(actions and their digitalSourceType, from the active manifest back through its parents)? Are these bytes the ones that
were signed (hash and signature codes)? Is the signer's certificate known and in date? The last changes with the
calendar and with lists of trust that this tool does not ship, and says nothing about the picture: it is a note.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ledger.core.findings import FindingCode
from ledger.evidence.c2pa_reader import Answer
from ledger.evidence.findings import Finding, finding
from ledger.evidence.pieces import Contents, NoteCode
from ledger.evidence.source_types import AI_COMPOSITES, AI_MADE, CAPTURES, source_type

_MAX_DEPTH = 16
_HASHES = frozenset({"assertion.dataHash.match", "assertion.bmffHash.match", "assertion.boxesHash.match"})
_HASH_MISMATCHES = frozenset(code.replace(".match", ".mismatch") for code in _HASHES)
_SIGNED = "claimSignature.validated"
_CREDENTIAL = ("signingCredential.", "timeStamp.", "timeOfSigning.", "claimSignature.outsideValidity")
_METADATA = ("stds.iptc", "c2pa.metadata", "cawg.metadata", "stds.schema-org.CreativeWork")
_SOURCE_KEYS = ("Iptc4xmpExt:DigitalSourceType", "iptcExt:DigitalSourceType", "digitalSourceType")
_ORIGINS = frozenset({"c2pa.created"})


def judge(answer: Answer, found: Contents) -> list[Finding]:
    """Findings out of a manifest store."""
    store = answer.store
    manifests = _object(store.get("manifests"))
    active = _object(manifests.get(str(store.get("active_manifest"))))
    codes = _codes(store)
    if codes.credential:
        found.note(NoteCode.C2PA_CREDENTIAL, answer.where, " ".join(codes.credential))
    results = _integrity(codes, active, answer.where)
    said = _said(manifests, active)
    for statement in said:
        results += _about_origin(statement, codes, answer.where)
    if not said:
        found.note(NoteCode.C2PA_NO_SOURCE, answer.where, " ".join(_generators(active)))
    return results


@dataclass(slots=True)
class _Codes:
    """Validation codes of the active manifest, and whether its ancestors have faults."""

    success: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)
    credential: list[str] = field(default_factory=list)
    ancestors_broken: list[str] = field(default_factory=list)

    @property
    def bound(self) -> bool:
        """The signature is right, and over the hash of these very bytes."""
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
    return [one["code"][:100] for one in _list(value) if isinstance(one, dict) and isinstance(one.get("code"), str)]


def _integrity(codes: _Codes, active: dict[str, Any], where: str) -> list[Finding]:
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
    """A manifest's word on the origin of the picture, or on one step of its making."""

    source: str
    is_origin: bool
    agent: str
    manifest: dict[str, Any]
    depth: int
    broken: tuple[str, ...] = ()


def _said(manifests: dict[str, Any], active: dict[str, Any]) -> list[_Statement]:
    """Statements from the active manifest back to where the picture began; one for each kind of thing said."""
    kept: dict[FindingCode, _Statement] = {}
    for statement in _history(manifests, active):
        code = _meaning(statement)
        if code is not None:
            kept.setdefault(code, statement)
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


def _about_origin(statement: _Statement, codes: _Codes, where: str) -> Iterator[Finding]:
    code = _meaning(statement)
    assert code is not None  # only those are kept
    broken = [*codes.broken, *statement.broken]
    if statement.depth:
        broken += codes.ancestors_broken
    bound = codes.bound and not broken
    if not bound and code is FindingCode.C2PA_CAPTURED:
        return  # a camera's word for other bytes is no word for these
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
        **_signer(statement.manifest),
    )


def _history(manifests: dict[str, Any], active: dict[str, Any]) -> Iterator[_Statement]:
    manifest, depth, broken = active, 0, tuple[str, ...]()
    seen: list[int] = []
    while manifest and depth <= _MAX_DEPTH and id(manifest) not in seen:
        seen.append(id(manifest))
        for source, is_origin, agent in _sources(manifest):
            yield _Statement(source, is_origin, agent, manifest, depth, broken)
        parent: dict[str, Any] = {}
        for ingredient in map(_object, _list(manifest.get("ingredients"))):
            below = _object(manifests.get(str(ingredient.get("active_manifest"))))
            if ingredient.get("relationship") == "parentOf":
                parent, broken = below, broken + _recorded_faults(ingredient)
            elif ingredient.get("relationship") == "componentOf":
                # Something of AI is in the picture; the picture as a whole is not made by it.
                for source, _, agent in _sources(below):
                    if source in AI_MADE | AI_COMPOSITES:
                        yield _Statement(source, False, agent, below, depth + 1, broken)
        manifest, depth = parent, depth + 1


def _recorded_faults(ingredient: dict[str, Any]) -> tuple[str, ...]:
    """Faults that the signer found in the ingredient when it was taken in."""
    recorded = _object(_object(ingredient.get("validation_results")).get("activeManifest"))
    failed = _code_list(recorded.get("failure")) + _code_list(ingredient.get("validation_status"))
    return tuple(code for code in failed if not code.startswith(_CREDENTIAL))


def _sources(manifest: dict[str, Any]) -> Iterator[tuple[str, bool, str]]:
    """(source type, whether it is the picture's origin, software) of each action and metadata assertion."""
    for assertion in map(_object, _list(manifest.get("assertions"))):
        label, data = str(assertion.get("label")), _object(assertion.get("data"))
        if label.startswith("c2pa.actions"):
            for action in map(_object, _list(data.get("actions"))):
                source = source_type(str(action.get("digitalSourceType") or ""))
                if source:
                    yield source, action.get("action") in _ORIGINS, _agent(action)
        elif label.startswith(_METADATA):
            for key in _SOURCE_KEYS:
                source = source_type(str(data.get(key) or ""))
                if source:
                    yield source, True, ""


def _agent(action: dict[str, Any]) -> str:
    agent = action.get("softwareAgent")
    return str(_object(agent).get("name") or "") if isinstance(agent, dict) else str(agent or "")


def _signer(manifest: dict[str, Any]) -> dict[str, str]:
    info = _object(manifest.get("signature_info"))
    facts = {"signer": info.get("issuer"), "certificate": info.get("common_name"), "signed_at": info.get("time")}
    return {name: str(value) for name, value in facts.items() if value}


def _generators(manifest: dict[str, Any]) -> list[str]:
    named = [str(_object(one).get("name") or "") for one in _list(manifest.get("claim_generator_info"))]
    return [one for one in named if one] or [str(manifest.get("claim_generator") or "")]


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
