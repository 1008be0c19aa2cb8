"""The receipt of an inspection: which file, by which tool, with what findings; and whether a file still bears it out.

A receipt holds no time and no name, so that the same bytes and the same tool give the same receipt, and a reviewer can
make it again. Its canonical form is that of reports (`core.encoding`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ledger.core import conduct
from ledger.core.encoding import b64url, canonical_json, unb64url
from ledger.core.findings import About, Strength
from ledger.errors import InspectionReceiptInvalid, InvalidCanonicalForm, InvalidEncoding
from ledger.evidence.findings import Finding
from ledger.evidence.pieces import INCOMPLETE, NAME_DEPENDENT, TIME_DEPENDENT, Note

RECEIPT_VERSION = 1
MAX_RECEIPT_BYTES = 256 * 2**10
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_KEYS = {"v", "tool", "c2pa_sdk", "file", "conclusion", "complete", "findings", "notes"}
_FILE_KEYS = {"sha256", "size_bytes", "media_type", "width_px", "height_px"}
_NOT_COMPARED = {code.value for code in TIME_DEPENDENT | NAME_DEPENDENT}


class Conclusion(StrEnum):
    """The whole in one word. None of them means "genuine"."""

    AI_IDENTIFIED = "ai_identified"
    AI_INDICATED = "ai_indicated"
    OTHER_FINDINGS = "other_findings"
    NOTHING_FOUND = "nothing_found"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an inspection found in one file. Notes say what it could not look at, and what else is to be known."""

    tool: str
    sha256: bytes
    size_bytes: int
    media_type: str
    width_px: int
    height_px: int
    findings: tuple[Finding, ...]
    notes: tuple[Note, ...]
    c2pa_sdk: str = ""

    @property
    def complete(self) -> bool:
        """Whether everything that may hold a label was read."""
        return not any(note.code in INCOMPLETE for note in self.notes)

    @property
    def conclusion(self) -> Conclusion:
        """How far the strongest finding about AI goes."""
        about_ai = [one for one in self.findings if one.about in (About.MADE_BY_AI, About.EDITED_WITH_AI)]
        strengths = {one.strength for one in about_ai}
        if Strength.IDENTIFIES in strengths:
            return Conclusion.AI_IDENTIFIED
        if Strength.INDICATES in strengths:
            return Conclusion.AI_INDICATED
        return Conclusion.OTHER_FINDINGS if self.findings else Conclusion.NOTHING_FOUND

    def in_report(self) -> conduct.Inspection:
        """The receipt as a report's evidence carries it: the digest of the whole, and the codes of its findings.

        Notes that depend on the day or on the file's name are left out of the digest, so that a reviewer's own receipt
        has the same one.
        """
        codes = sorted({one.code.value for one in self.findings})
        return conduct.Inspection(receipt_digest(self.to_json()), self.tool, tuple(codes))

    def to_json(self) -> dict[str, Any]:
        """JSON values, as `canonical` writes them."""
        return {
            "v": RECEIPT_VERSION,
            "tool": self.tool,
            "c2pa_sdk": self.c2pa_sdk,
            "file": {
                "sha256": b64url(self.sha256),
                "size_bytes": self.size_bytes,
                "media_type": self.media_type,
                "width_px": self.width_px,
                "height_px": self.height_px,
            },
            "conclusion": self.conclusion.value,
            "complete": self.complete,
            "findings": [
                {"code": one.code.value, "strength": one.strength.value, "where": one.where, "facts": dict(one.facts)}
                for one in self.findings
            ],
            "notes": [{"code": one.code.value, "where": one.where, "detail": one.detail} for one in self.notes],
        }

    def canonical(self) -> bytes:
        """The receipt's canonical bytes."""
        return canonical_json(self.to_json())


@dataclass(frozen=True, slots=True)
class Agreement:
    """Whether a file bears a receipt out. `differences` names what is not the same.

    `same_tool` false explains findings that differ: another version may know more, or judge otherwise.
    """

    agrees: bool
    same_file: bool
    same_tool: bool
    differences: tuple[str, ...]


def receipt_digest(receipt: Mapping[str, Any]) -> bytes:
    """SHA-256 of a receipt's JSON values in canonical form, as a report carries it: without the notes that depend on
    the day or on the file's name."""
    kept = [note for note in receipt["notes"] if note["code"] not in _NOT_COMPARED]
    return hashlib.sha256(canonical_json({**receipt, "notes": kept})).digest()


def check_form(value: object) -> dict[str, Any]:
    """`value` if it has the form of a receipt, of whatever tool. Raises InspectionReceiptInvalid."""
    try:
        if not isinstance(value, dict) or value.keys() != _KEYS or type(value["v"]) is not int or value["v"] != 1:
            raise InspectionReceiptInvalid(f"A receipt has exactly {', '.join(sorted(_KEYS))}, and version 1.")
        if len(canonical_json(value)) > MAX_RECEIPT_BYTES:
            raise InspectionReceiptInvalid(f"A receipt has at most {MAX_RECEIPT_BYTES} bytes.")
        file, conclusion = value["file"], value["conclusion"]
        if not isinstance(file, dict) or file.keys() != _FILE_KEYS:
            raise InspectionReceiptInvalid(f"A receipt's file has exactly {', '.join(sorted(_FILE_KEYS))}.")
        unb64url(file["sha256"], 32)
    except (InvalidCanonicalForm, InvalidEncoding) as error:
        raise InspectionReceiptInvalid("A receipt is canonical JSON, its sha256 base64url of 32 bytes.") from error
    texts = (value["tool"], value["c2pa_sdk"], file["media_type"], conclusion)
    numbers = (file["size_bytes"], file["width_px"], file["height_px"])
    if not all(isinstance(one, str) for one in texts) or not all(type(one) is int and one >= 0 for one in numbers):
        raise InspectionReceiptInvalid("A receipt's tool, media type, conclusion and sizes have other types.")
    if type(value["complete"]) is not bool or not _CODE.match(conclusion):
        raise InspectionReceiptInvalid("A receipt's conclusion is a code, and complete true or false.")
    for name, keys in (("findings", {"code", "strength", "where", "facts"}), ("notes", {"code", "where", "detail"})):
        if not isinstance(value[name], list) or not all(_is_item(item, keys) for item in value[name]):
            raise InspectionReceiptInvalid(f"Each item of a receipt's {name} has exactly {', '.join(sorted(keys))}.")
    return value


def _is_item(item: object, keys: set[str]) -> bool:
    if not isinstance(item, dict) or item.keys() != keys or not isinstance(item["code"], str):
        return False
    if not _CODE.match(item["code"]) or ("strength" in keys and item["strength"] not in list(Strength)):
        return False
    return all(isinstance(item[name], str) for name in keys - {"facts"}) and isinstance(item.get("facts", {}), dict)


def compare(claimed: Mapping[str, Any], recomputed: Receipt) -> Agreement:
    """A receipt (checked by `check_form`) against the one that the file gives now.

    Left out are notes that depend on the day (certificates) or on the file's name.
    """
    own = recomputed.to_json()
    same_tool = claimed["tool"] == own["tool"] and claimed["c2pa_sdk"] == own["c2pa_sdk"]
    differences = [f"file.{name}" for name in sorted(_FILE_KEYS) if claimed["file"][name] != own["file"][name]]
    same_file = claimed["file"]["sha256"] == own["file"]["sha256"]
    differences += [name for name in ("conclusion", "complete") if claimed[name] != own[name]]
    for name in ("findings", "notes"):
        theirs, ours = _kept(claimed[name]), _kept(own[name])
        differences += [f"{name}: only in the receipt: {code}" for code in _only(theirs, ours)]
        differences += [f"{name}: only in the file: {code}" for code in _only(ours, theirs)]
    return Agreement(not differences, same_file, same_tool, tuple(differences))


def _kept(items: list[dict[str, Any]]) -> list[tuple[str, bytes]]:
    return [(item["code"], canonical_json(item)) for item in items if item["code"] not in _NOT_COMPARED]


def _only(these: list[tuple[str, bytes]], those: list[tuple[str, bytes]]) -> list[str]:
    return sorted({code for code, form in these if form not in {other for _, other in those}})
