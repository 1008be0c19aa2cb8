"""The receipt of an inspection: which file, by which tool, with what findings; and whether a file still bears it out.

A receipt holds no time and no name, so that the same bytes and the same tool give the same receipt, and a reviewer can
make it again. Its canonical form is that of reports (`protocol.encoding`).

What was measured on pixels is compared with some room, and no part of the digest: decoders of one and the same JPEG may
differ by a step of brightness, and OpenCV's numbers by version and processor. Nor is the trust in a signer, with what
follows from it: certificates expire. A report carries it beside the digest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ledger.errors import InspectionReceiptInvalid, InvalidCanonicalForm, InvalidEncoding, NewerFormat
from ledger.evidence.findings import InspectionFinding
from ledger.evidence.formats.metadata import DECODER_DEPENDENT, INCOMPLETE, NAME_DEPENDENT, TIME_DEPENDENT, Note
from ledger.protocol.encoding import b64url, canonical_json, unb64url
from ledger.rules import conduct
from ledger.rules.conduct import is_pdq
from ledger.rules.findings import CODES, About, FindingCode, Strength, Trust, strength_of, weakest
from ledger.rules.pictures import distance

RECEIPT_VERSION = 2
"""Version 1 had no `trust_lists` and no trust: its codes that name an issuer identified the signer, trusted or not."""

MAX_RECEIPT_BYTES = 256 * 2**10
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_KEYS = {"v", "tool", "c2pa_sdk", "opencv", "file", "listings", "conclusion", "complete", "findings", "notes"}
_KEYS_OF = {1: _KEYS, 2: _KEYS | {"trust_lists"}}
_LAPSED = frozenset({Trust.EXPIRED.value, Trust.REVOKED.value})
_BYTES_KEYS = {"sha256", "size_bytes", "media_type", "width_px", "height_px"}
_PIXEL_KEYS = {"pdq", "pdq_quality"}
_FILE_KEYS = _BYTES_KEYS | _PIXEL_KEYS
_NOT_COMPARED = {code.value for code in TIME_DEPENDENT | NAME_DEPENDENT | DECODER_DEPENDENT}

MAX_PDQ_DIFFERENCE = 8
"""Bits by which two decoders' hashes of one file may differ."""

MAX_QUALITY_DIFFERENCE = 5
MEASURED_FACTS = {
    "correlation_percent": 3,
    "largest_difference": 5,
    "pdq_distance": 2 * MAX_PDQ_DIFFERENCE,
    "inliers": 20,
    "scale_percent": 2,
    "rotation_degrees": 1,
    "overlap_percent": 3,
    "changed_percent": 3,
    "changed_box": 20,
}
"""Facts measured on pixels: by how much two measurements may differ. A tenth of the larger is always allowed."""


class Conclusion(StrEnum):
    """The whole in one word. None of them means "genuine"."""

    AI_IDENTIFIED = "ai_identified"
    AI_INDICATED = "ai_indicated"
    OTHER_FINDINGS = "other_findings"
    NOTHING_FOUND = "nothing_found"


@dataclass(frozen=True, slots=True)
class InspectionReceipt:
    """What an inspection found in one file. Notes say what it could not look at, and what else is to be known."""

    tool: str
    sha256: bytes
    size_bytes: int
    media_type: str
    width_px: int
    height_px: int
    findings: tuple[InspectionFinding, ...]
    notes: tuple[Note, ...]
    c2pa_sdk: str = ""
    pdq: str = ""
    """The PDQ hash of the picture as it is shown, in 64 hexadecimal digits; empty if there is none."""
    pdq_quality: int = 0
    listings: tuple[bytes, ...] = ()
    """SHA-256 of the listing photos that were compared, in their order, each once."""
    opencv: str = ""
    trust_lists: str = ""
    """The date of the trust lists by which signers were judged."""

    @property
    def trust(self) -> Trust | None:
        """The weakest trust among the signed findings; None where no finding is signed."""
        return weakest(finding.trust for finding in self.findings if finding.trust is not None)

    @property
    def complete(self) -> bool:
        """True if everything that may hold a label was read."""
        return not any(note.code in INCOMPLETE for note in self.notes)

    @property
    def conclusion(self) -> Conclusion:
        """The conclusion from the strongest finding about AI."""
        return conclusion_of((finding.code.value, finding.strength.value) for finding in self.findings)

    def in_report(self) -> conduct.Inspection:
        """Return the receipt as a report's evidence carries it: the digest of the whole, and the codes of its findings.

        The digest leaves out what was measured on pixels (`receipt_digest`); the report carries the PDQ hash beside it.
        """
        codes = sorted({finding.code.value for finding in self.findings})
        return conduct.Inspection(receipt_digest(self.to_json()), self.tool, tuple(codes), self.trust)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON values that `canonical` writes."""
        return {
            "v": RECEIPT_VERSION,
            "tool": self.tool,
            "c2pa_sdk": self.c2pa_sdk,
            "opencv": self.opencv,
            "trust_lists": self.trust_lists,
            "file": {
                "sha256": b64url(self.sha256),
                "size_bytes": self.size_bytes,
                "media_type": self.media_type,
                "width_px": self.width_px,
                "height_px": self.height_px,
                "pdq": self.pdq,
                "pdq_quality": self.pdq_quality,
            },
            "listings": [b64url(listing) for listing in self.listings],
            "conclusion": self.conclusion.value,
            "complete": self.complete,
            "findings": [
                {
                    "code": finding.code.value,
                    "strength": finding.strength.value,
                    "where": finding.where,
                    "facts": dict(finding.facts),
                }
                for finding in self.findings
            ],
            "notes": [{"code": note.code.value, "where": note.where, "detail": note.detail} for note in self.notes],
        }

    def canonical(self) -> bytes:
        """Return the receipt's canonical bytes."""
        return canonical_json(self.to_json())


@dataclass(frozen=True, slots=True)
class ReceiptAgreement:
    """Whether a file bears a receipt out. `differences` names what is not the same.

    `same_tool` false explains findings that differ: another version may know more, or judge otherwise.
    """

    agrees: bool
    same_file: bool
    same_tool: bool
    differences: tuple[str, ...]


def receipt_trust(receipt: Mapping[str, Any]) -> Trust | None:
    """Return the weakest trust in a signer in a receipt (checked by `check_form`); None where nothing is signed."""
    trusts = [_TRUSTS.get(finding["facts"].get("trust")) for finding in receipt["findings"]]
    return weakest(item for item in trusts if item is not None)


def receipt_digest(receipt: Mapping[str, Any]) -> bytes:
    """Return the SHA-256 of a receipt's JSON values in canonical form, as a report carries it.

    Left out is what another receipt of the same file may rightly have otherwise: notes that depend on the day, on the
    file's name or on the decoder, what was measured on pixels, which includes the PDQ hash, and (but for version 1) the
    trust in a signer with the strength and the conclusion that follow from it.
    """
    kept = {
        **receipt,
        "notes": [note for note in receipt["notes"] if note["code"] not in _NOT_COMPARED],
        "findings": [_without_measured(finding) for finding in receipt["findings"]],
        "file": {name: receipt["file"][name] for name in _BYTES_KEYS},
    }
    del kept["opencv"]
    if receipt["v"] != 1:
        kept["findings"] = [_without_trust(finding) for finding in kept["findings"]]
        del kept["conclusion"]
    return hashlib.sha256(canonical_json(kept)).digest()


def check_form(value: object) -> dict[str, Any]:
    """Return `value` if it has the form of a receipt, of any tool.

    Codes, strengths and conclusions that a later version added are kept as texts, and so are further members; they are
    part of the digest, but for those of `file`. Raises InspectionReceiptInvalid, and NewerFormat for a receipt of a
    later version."""
    try:
        version = value.get("v") if isinstance(value, dict) else None
        if type(version) is int and version > RECEIPT_VERSION:
            raise NewerFormat(
                "This receipt of an inspection is in a format that this version does not read. Update the program.",
                format=version,
            )
        keys = _KEYS_OF.get(version) if type(version) is int else None
        # Version 1 is closed: no writer adds anything to it any longer.
        further = isinstance(value, dict) and keys is not None and value.keys() - keys
        if not isinstance(value, dict) or keys is None or keys - value.keys() or (version == 1 and further):
            names = ", ".join(sorted(_KEYS_OF[RECEIPT_VERSION]))
            raise InspectionReceiptInvalid(f"A receipt of version {RECEIPT_VERSION} has {names}.")
        if len(canonical_json(value)) > MAX_RECEIPT_BYTES:
            raise InspectionReceiptInvalid(f"A receipt has at most {MAX_RECEIPT_BYTES} bytes.")
        file, conclusion = value["file"], value["conclusion"]
        if not isinstance(file, dict) or not file.keys() >= _FILE_KEYS:
            raise InspectionReceiptInvalid(f"A receipt's file has {', '.join(sorted(_FILE_KEYS))}.")
        listings = value["listings"]
        if not isinstance(listings, list) or listings != sorted(set(map(str, listings))):
            raise InspectionReceiptInvalid("A receipt's listings stand in their order, each once.")
        for digest in (file["sha256"], *listings):
            unb64url(digest, 32)
    except (InvalidCanonicalForm, InvalidEncoding) as error:
        raise InspectionReceiptInvalid("A receipt is canonical JSON, its sha256 base64url of 32 bytes.") from error
    texts = (value["tool"], value["c2pa_sdk"], value["opencv"], file["media_type"], conclusion, file["pdq"])
    numbers = (file["size_bytes"], file["width_px"], file["height_px"], file["pdq_quality"])
    if not all(isinstance(item, str) for item in (*texts, value.get("trust_lists", ""))) or not all(
        type(number) is int and number >= 0 for number in numbers
    ):
        raise InspectionReceiptInvalid("A receipt's tool, media type, conclusion and sizes have other types.")
    if file["pdq"] and not is_pdq(file["pdq"]):
        raise InspectionReceiptInvalid("A receipt's pdq has 64 lower-case hexadecimal digits, or none.")
    if type(value["complete"]) is not bool or not _CODE.match(conclusion):
        raise InspectionReceiptInvalid("A receipt's conclusion is a code, and complete true or false.")
    for name, keys in (("findings", {"code", "strength", "where", "facts"}), ("notes", {"code", "where", "detail"})):
        if not isinstance(value[name], list) or not all(_is_item(item, keys) for item in value[name]):
            raise InspectionReceiptInvalid(f"Each item of a receipt's {name} has {', '.join(sorted(keys))}.")
    return value


def _is_item(item: object, keys: set[str]) -> bool:
    if not isinstance(item, dict) or not item.keys() >= keys:
        return False
    codes = [item[name] for name in ("code", "strength") if name in keys]
    if not all(isinstance(code, str) and _CODE.match(code) for code in codes):
        return False
    return all(isinstance(item[name], str) for name in keys - {"facts"}) and isinstance(item.get("facts", {}), dict)


def compare(claimed: Mapping[str, Any], recomputed: InspectionReceipt) -> ReceiptAgreement:
    """Compare a receipt (checked by `check_form`) with the one that the file gives now.

    Left out are notes that depend on the day (certificates), on the file's name or on the decoder; what was measured on
    pixels may differ a little. A signer may have lapsed since, and nothing else of the trust may differ. The same
    listing photos must have been compared. A receipt of version 1 is compared in the form of its version.
    """
    own = recomputed.to_json() if claimed["v"] != 1 else _as_version_1(recomputed.to_json())
    same_tool = all(claimed[name] == own[name] for name in ("tool", "c2pa_sdk", "opencv"))
    differences = [f"file.{name}" for name in sorted(_BYTES_KEYS) if claimed["file"][name] != own["file"][name]]
    differences += _pdq_differences(claimed["file"], own["file"])
    same_file = claimed["file"]["sha256"] == own["file"]["sha256"]
    differences += [
        f"listings: only in the receipt: {listing}" for listing in claimed["listings"] if listing not in own["listings"]
    ]
    differences += [
        f"listings: only given now: {listing}" for listing in own["listings"] if listing not in claimed["listings"]
    ]
    trust_differs, lapsed = (
        _trust_differences(claimed["findings"], own["findings"]) if claimed["v"] != 1 else ([], False)
    )
    differences += [] if claimed["conclusion"] == own["conclusion"] or lapsed else ["conclusion"]
    differences += [] if claimed["complete"] == own["complete"] else ["complete"]
    for name in ("findings", "notes"):
        theirs, ours = _kept(claimed[name]), _kept(own[name])
        differences += [f"{name}: only in the receipt: {code}" for code in _only(theirs, ours)]
        differences += [f"{name}: only in the file: {code}" for code in _only(ours, theirs)]
    differences += trust_differs
    return ReceiptAgreement(not differences, same_file, same_tool, tuple(differences))


def conclusion_of(findings: Iterable[tuple[str, str]]) -> Conclusion:
    """Return the conclusion from findings, each (code, strength). Codes of later versions are no signs of AI."""
    pairs = list(findings)
    about_ai = {About.MADE_BY_AI, About.EDITED_WITH_AI}
    strengths = {strength for code, strength in pairs if code in _ABOUT and _ABOUT[code] in about_ai}
    if Strength.IDENTIFIES.value in strengths:
        return Conclusion.AI_IDENTIFIED
    if Strength.INDICATES.value in strengths:
        return Conclusion.AI_INDICATED
    return Conclusion.OTHER_FINDINGS if pairs else Conclusion.NOTHING_FOUND


_ABOUT = {code.value: about for code, (_, about) in CODES.items()}


def _as_version_1(own: dict[str, Any]) -> dict[str, Any]:
    """Return a receipt in the form of version 1."""
    findings = [_without_trust(finding) | {"strength": finding["strength"]} for finding in own["findings"]]
    for finding in findings:
        if finding["code"] in conduct.FORMERLY_IDENTIFYING:
            finding["strength"] = Strength.IDENTIFIES.value
    conclusion = conclusion_of((finding["code"], finding["strength"]) for finding in findings)
    return {**own, "findings": findings, "conclusion": conclusion.value}


def _trust_differences(
    theirs: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]
) -> tuple[list[str], bool]:
    """Return the places where a receipt states another trust than the file shows now, and whether a signer has lapsed
    since, which is no difference. Findings are matched by code and place; a strength that does not follow from the
    trust is a difference."""
    now = {(finding["code"], finding["where"]): finding["facts"].get("trust") for finding in ours}
    differences, lapsed = [], False
    for finding in theirs:
        code, claimed = finding["code"], finding["facts"].get("trust")
        shown = now.get((code, finding["where"]), claimed)
        if claimed != shown and shown in _LAPSED:
            lapsed = True
        elif claimed != shown:
            differences.append(f"trust: {code}: {claimed} in the receipt, {shown} now")
        known, trust = _CODES.get(code), _TRUSTS.get(claimed)
        if known is not None and finding["strength"] != strength_of(known, trust).value:
            differences.append(f"strength: {code}")
    return sorted(set(differences)), lapsed


_CODES = {code.value: code for code in FindingCode}
_TRUSTS: dict[object, Trust] = {trust.value: trust for trust in Trust}


def _pdq_differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    claimed, own = bytes.fromhex(theirs["pdq"]), bytes.fromhex(ours["pdq"])
    differences = []
    if len(claimed) != len(own) or distance(claimed, own) > MAX_PDQ_DIFFERENCE:
        differences.append("file.pdq")
    if abs(theirs["pdq_quality"] - ours["pdq_quality"]) > MAX_QUALITY_DIFFERENCE:
        differences.append("file.pdq_quality")
    return differences


def _kept(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for item in items if item["code"] not in _NOT_COMPARED]


def _only(these: list[dict[str, Any]], those: list[dict[str, Any]]) -> list[str]:
    return sorted({finding["code"] for finding in these if not any(_alike(finding, other) for other in those)})


def _alike(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """True if both are the same within the tolerance of measurements."""
    if canonical_json(_without_trust(_without_measured(first))) != canonical_json(
        _without_trust(_without_measured(second))
    ):
        return False
    facts, others = first.get("facts", {}), second.get("facts", {})
    return facts.keys() == others.keys() and all(
        _near(facts[name], others[name], room) for name, room in MEASURED_FACTS.items() if name in facts
    )


def _near(first: object, second: object, room: int) -> bool:
    if type(first) is int and type(second) is int:
        return abs(first - second) <= max(room, max(abs(first), abs(second)) // 10)
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return all(_near(left, right, room) for left, right in zip(first, second, strict=True))
    return False


def _without_trust(item: dict[str, Any]) -> dict[str, Any]:
    """Return a finding without what follows from its signer; a note as it is."""
    if "facts" not in item:
        return item
    facts = {name: value for name, value in item["facts"].items() if name != "trust"}
    return {**{name: value for name, value in item.items() if name != "strength"}, "facts": facts}


def _without_measured(item: dict[str, Any]) -> dict[str, Any]:
    if "facts" not in item:
        return item
    return {**item, "facts": {name: value for name, value in item["facts"].items() if name not in MEASURED_FACTS}}
