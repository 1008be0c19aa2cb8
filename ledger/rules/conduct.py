"""The reportable conduct: conduct codes, evidence types, and the minimum of evidence for each conduct.

Only confirmed fraud is reportable, and this module enforces it. Evidence itself is not sent to the ledger: a
report names each item by type and SHA-256, and the file stays at the platform. `docs/reports.md`
shows the rows of `Conduct` as a table, and a test keeps the two equal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import Any, NoReturn, TypeGuard

from ledger.errors import (
    EvidenceInsufficient,
    EvidenceInvalid,
    EvidenceOriginMissing,
    EvidenceRefused,
    EvidenceUntrusted,
    InvalidEncoding,
)
from ledger.protocol.encoding import unb64url
from ledger.protocol.public_ids import is_id
from ledger.protocol.row_enum import RowEnum
from ledger.rules.findings import TRUSTED, FindingCode, Strength, Trust, identifies_ai, strength_of
from ledger.rules.provenance import Confirmation, Origin, OriginSource, Verdict, parse_confirmation, parse_origin
from ledger.rules.reason_codes import Reason

MAX_EVIDENCE_ITEMS = 32
MAX_CODE_CHARS = 64
MAX_INSPECTION_FINDINGS = 64


class EvidenceType(StrEnum):
    """The type of an item of evidence."""

    ORIGINAL_FILE = "original_file"
    SOURCE_IMAGE = "source_image"
    AI_LABEL = "ai_label"
    ISSUER_CONFIRMATION = "issuer_confirmation"
    LISTING_MATCH = "listing_match"
    LIVE_RESHOOT_FAILED = "live_reshoot_failed"
    PHYSICAL_CONTRADICTION = "physical_contradiction"
    FRAME_CONTRADICTION = "frame_contradiction"
    ADMISSION = "admission"
    DELIVERY_SCAN = "delivery_scan"
    DELIVERY_GPS = "delivery_gps"
    DELIVERY_PHOTO = "delivery_photo"
    SIGNATURE = "signature"
    DISPATCH_WEIGHT = "dispatch_weight"
    RETURN_WEIGHT = "return_weight"
    INTAKE_PHOTO = "intake_photo"
    SERIAL_MISMATCH = "serial_mismatch"
    INSPECTION_REPORT = "inspection_report"
    CARRIER_RECORD = "carrier_record"
    POLICY_CLAUSE = "policy_clause"
    UNDISPUTED_TRANSACTION = "undisputed_transaction"
    IP_MATCH = "ip_match"
    DEVICE_MATCH = "device_match"
    LINKED_INSTRUMENT = "linked_instrument"


@dataclass(frozen=True, slots=True)
class Need:
    """At least `count` items whose type is one of `of`; more than one means as many different SHA-256."""

    of: tuple[EvidenceType, ...]
    count: int = 1

    def __str__(self) -> str:
        """Return the need as a text: `original_file`, `one of: a, b`, `two of: a, b, c`."""
        if len(self.of) == len(EvidenceType):
            return "one item of any type"
        names = ", ".join(self.of)
        if self.count == 1:
            return names if len(self.of) == 1 else f"one of: {names}"
        return f"{('', '', 'two', 'three')[self.count]} {'of: ' if len(self.of) > 1 else ''}{names}"


Minimum = tuple[tuple[Need, ...], ...]
"""Alternatives, each a list of needs that must all be met."""


def _need(*of: EvidenceType, count: int = 1) -> Need:
    return Need(of, count)


_E = EvidenceType
_WORD_OF_ISSUER = (_E.AI_LABEL, _E.ISSUER_CONFIRMATION)
_IMAGE_PROOF = (
    *_WORD_OF_ISSUER,
    _E.LISTING_MATCH,
    _E.LIVE_RESHOOT_FAILED,
    _E.PHYSICAL_CONTRADICTION,
    _E.ADMISSION,
)
_FABRICATED = (_need(_E.ORIGINAL_FILE), _need(*_IMAGE_PROOF, count=2))


def _(message: str) -> str:
    """Return `message` itself, marked for the catalogues."""
    return message


@dataclass(frozen=True, slots=True)
class ConductSpec:
    """The definition of one conduct.

    `byte` (1 to 255) is its code in sealed events: append only, a number never changes its meaning. `severity` is its
    default in points (0: the conduct protects a person); the policy in effect sets the number that counts. `reason` is
    the code that a standing gives for it, None for a protective one. `minimum` is the evidence that a report needs,
    `text` the msgid of what a report of it says. `forges_picture`: it says of the reported picture itself that it is
    false.
    """

    code: str
    byte: int
    severity: int
    reason: Reason | None
    minimum: Minimum
    text: str
    forges_picture: bool = False


class Conduct(RowEnum):
    """A confirmed act, or `impersonated`: another person abused this account."""

    # One row each. A further conduct is a row here, its text in the catalogues and a row in `docs/reports.md`.
    spec: ConductSpec

    AI_FABRICATED_IMAGE = ConductSpec(
        code="ai_fabricated_image",
        byte=1,
        severity=6,
        reason=Reason.FALSE_IMAGE,
        minimum=(_FABRICATED,),
        text=_("A photo of damage that was made by an image generator"),
        forges_picture=True,
    )
    EDITED_IMAGE = ConductSpec(
        code="edited_image",
        byte=2,
        severity=6,
        reason=Reason.FALSE_IMAGE,
        minimum=(_FABRICATED, (_need(_E.ORIGINAL_FILE), _need(_E.SOURCE_IMAGE), _need(*_IMAGE_PROOF))),
        text=_("A photo of damage that was edited"),
        forges_picture=True,
    )
    TAMPERED_VIDEO = ConductSpec(
        code="tampered_video",
        byte=3,
        severity=6,
        reason=Reason.FALSE_IMAGE,
        minimum=((_need(_E.ORIGINAL_FILE), _need(_E.FRAME_CONTRADICTION, _E.ADMISSION, *_WORD_OF_ISSUER)),),
        text=_("A video that was altered"),
        forges_picture=True,
    )
    FALSE_NON_RECEIPT = ConductSpec(
        code="false_non_receipt",
        byte=4,
        severity=3,
        reason=Reason.FALSE_DELIVERY,
        minimum=((_need(_E.DELIVERY_SCAN), _need(_E.DELIVERY_GPS, _E.DELIVERY_PHOTO, _E.SIGNATURE, _E.ADMISSION)),),
        text=_("A refund for “not received” although the parcel was delivered"),
    )
    EMPTY_PARCEL = ConductSpec(
        code="empty_parcel",
        byte=5,
        severity=3,
        reason=Reason.FALSE_RETURN,
        minimum=((_need(_E.DISPATCH_WEIGHT), _need(_E.RETURN_WEIGHT), _need(_E.INTAKE_PHOTO)),),
        text=_("A return parcel that was empty, or in which something was missing"),
    )
    SWITCHED_RETURN = ConductSpec(
        code="switched_return",
        byte=6,
        severity=6,
        reason=Reason.FALSE_RETURN,
        minimum=((_need(_E.SERIAL_MISMATCH, _E.INSPECTION_REPORT), _need(_E.INTAKE_PHOTO)),),
        text=_("A return with a different item in it"),
    )
    FAKE_RETURN_TRACKING = ConductSpec(
        code="fake_return_tracking",
        byte=7,
        severity=3,
        reason=Reason.FALSE_RETURN,
        minimum=((_need(_E.CARRIER_RECORD),),),
        text=_("A tracking number for a return that was not sent"),
    )
    WARDROBING = ConductSpec(
        code="wardrobing",
        byte=8,
        severity=1,
        reason=Reason.FALSE_RETURN,
        minimum=((_need(_E.INTAKE_PHOTO), _need(_E.POLICY_CLAUSE)),),
        text=_("A used item returned as new"),
    )
    FRIENDLY_CHARGEBACK = ConductSpec(
        code="friendly_chargeback",
        byte=9,
        severity=3,
        reason=Reason.FALSE_CHARGEBACK,
        minimum=((_need(_E.UNDISPUTED_TRANSACTION, count=2), _need(_E.IP_MATCH, _E.DEVICE_MATCH)),),
        text=_("A payment taken back through the bank although the purchase was one’s own"),
    )
    ACCOUNT_FARM = ConductSpec(
        code="account_farm",
        byte=10,
        severity=6,
        reason=Reason.LINKED_ACCOUNTS,
        minimum=((_need(_E.LINKED_INSTRUMENT, count=2),),),
        text=_("Several linked accounts used for refunds that were not due"),
    )
    IMPERSONATED = ConductSpec(
        code="impersonated",
        byte=11,
        severity=0,
        reason=None,
        minimum=((_need(*EvidenceType),),),
        text=_("Somebody else used this person’s account"),
    )


MINIMUMS: Mapping[Conduct, Minimum] = {conduct: conduct.spec.minimum for conduct in Conduct}
"""The minimum evidence of each conduct."""

CONDUCT_BYTES: Mapping[str, int] = {conduct: conduct.spec.byte for conduct in Conduct}
"""The byte of each conduct in sealed events; 0 means no event."""

REFUSED_EVIDENCE = frozenset({"police_penalty_record"})
"""Never accepted for anything: art. 136 of the PRC Public Security Administration Punishments Law (in force
since 2026) seals these records, and giving them to a consortium would be unlawful."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a tool other than `refund-ledger inspect` found in the item, by that tool's own code.

    `trust` is what that tool found behind the signature that the finding rests on, None where nothing is signed.
    """

    code: str
    strength: Strength
    tool_version: str
    trust: Trust | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """The receipt of an inspection, as a report carries it
    (`ledger.evidence.receipt.InspectionReceipt.in_report` makes it).

    `receipt_sha256` (32 bytes) is the digest of the whole receipt, which stays with the file, so that a reviewer who
    has both can make it again; `tool` is the tool's name and version; `findings` are the codes of what it found, each
    once. Their facts are not here: they are copied from the file, and may name people. `trust` is the weakest that a
    signed finding among them rests on, None where nothing is signed (or the version of the tool did not report trust).
    """

    receipt_sha256: bytes
    tool: str
    findings: tuple[str, ...]
    trust: Trust | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """One item: its type, the SHA-256 (32 bytes) of the file, and what goes with it.

    `pdq` is a PDQ perceptual hash as 64 hexadecimal digits and `pdq_quality` its quality (0 to 100); `inspection` is
    what this project's own tool found in the file, `finding` what another tool did; `report_id` names the report that a
    `linked_instrument` rests on; `origin` says where an `original_file` came from (None: the report does not say, as
    reports did not at first); `confirmation` is what the answer says that an `issuer_confirmation` is the digest of.
    """

    type: EvidenceType
    sha256: bytes
    pdq: str | None = None
    finding: Finding | None = None
    report_id: str | None = None
    pdq_quality: int | None = None
    inspection: Inspection | None = None
    origin: Origin | None = None
    confirmation: Confirmation | None = None


class Reading(StrEnum):
    """The rules by which items count for a minimum."""

    INTAKE = "intake"
    """The rules for a new report."""
    RECORDED = "recorded"
    """The rules for an accepted report: a file without an origin counts, because the report's time did not ask for
    one."""
    FORMER = "former"
    """The rules for a report from before labels had to be signed under a trust list: its labels count as they did
    then."""


PDQ_PATTERN = "[0-9a-f]{64}"
"""Form of a PDQ hash as text: its 256 bits as lower-case hexadecimal digits, highest bit first."""

_PDQ = re.compile(PDQ_PATTERN)
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+/ -]{0,63}\Z")
_FINDING_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
EVIDENCE_MEMBERS = frozenset(
    {"type", "sha256", "pdq", "pdq_quality", "inspection", "finding", "report_id", "origin", "confirmation"}
)
"""The members that an item of evidence may have."""

MAX_QUALITY = 100
_TYPES: dict[object, EvidenceType] = {item.value: item for item in EvidenceType}
_STRENGTHS: dict[object, Strength] = {item.value: item for item in Strength}
_TRUSTS: dict[object, Trust] = {item.value: item for item in Trust}
_FINDING_CODES: dict[object, FindingCode] = {item.value: item for item in FindingCode}
FORMERLY_IDENTIFYING = frozenset({FindingCode.AIGC_GENERATED, FindingCode.C2PA_AI_GENERATED})
"""Codes that identified a file in every report until labels had to be signed under a trust list."""


def is_pdq(text: object) -> TypeGuard[str]:
    """True if `text` has the form of a PDQ hash (`PDQ_PATTERN`)."""
    return isinstance(text, str) and _PDQ.fullmatch(text) is not None


def parse_evidence(items: object) -> tuple[Evidence, ...]:
    """Return the evidence list of a report body, strictly: unknown keys are refused, nothing is guessed.

    Raises EvidenceInvalid, EvidenceRefused (types that are never accepted) or InvalidEncoding.
    """
    if type(items) is not list or not 1 <= len(items) <= MAX_EVIDENCE_ITEMS:
        raise EvidenceInvalid(f"A report needs a list of 1 to {MAX_EVIDENCE_ITEMS} items of evidence.")
    return tuple([parse_item(item) for item in items])


def parse_item(item: Any) -> Evidence:
    """Return one item of the evidence list of a report body. Raises EvidenceInvalid, EvidenceRefused, InvalidEncoding,
    InvalidTime."""
    if type(item) is not dict or not item.keys() <= EVIDENCE_MEMBERS:
        raise EvidenceInvalid(
            "An item of evidence has type, sha256 and optionally pdq, pdq_quality, inspection, finding, report_id, "
            "origin, confirmation."
        )
    kind = parse_type(item.get("type"))
    pdq, report_id = item.get("pdq"), item.get("report_id")
    if "pdq" in item and not is_pdq(pdq):
        raise EvidenceInvalid("A pdq hash has 64 lower-case hexadecimal digits.")
    quality = item.get("pdq_quality")
    if "pdq_quality" in item and not (pdq is not None and type(quality) is int and 0 <= quality <= MAX_QUALITY):
        raise EvidenceInvalid("A pdq_quality is a whole number from 0 to 100, beside the pdq that it is of.")
    if ("report_id" in item) != (kind is EvidenceType.LINKED_INSTRUMENT):
        raise EvidenceInvalid("A linked_instrument names the report it rests on in report_id; nothing else does.")
    if "report_id" in item and not is_id("rp", report_id):
        raise EvidenceInvalid("A report_id looks like rp_ and letters and digits.")
    if "origin" in item and kind is not EvidenceType.ORIGINAL_FILE:
        raise EvidenceInvalid("Only an original_file has an origin.")
    if ("confirmation" in item) != (kind is EvidenceType.ISSUER_CONFIRMATION):
        raise EvidenceInvalid("An issuer_confirmation says what was answered in confirmation; nothing else does.")
    try:
        sha256 = unb64url(item.get("sha256", ""), 32)
    except InvalidEncoding as error:
        raise EvidenceInvalid("An item of evidence needs a sha256: 32 bytes as base64url without padding.") from error
    finding = _finding(item["finding"]) if "finding" in item else None
    inspection = parse_inspection(item["inspection"]) if "inspection" in item else None
    origin = parse_origin(item["origin"]) if "origin" in item else None
    confirmation = parse_confirmation(item["confirmation"]) if "confirmation" in item else None
    return Evidence(kind, sha256, pdq, finding, report_id, quality, inspection, origin, confirmation)


def parse_type(name: object) -> EvidenceType:
    """Return the type of evidence of this name. Raises EvidenceInvalid for another one, EvidenceRefused for a type that
    is never accepted."""
    if not isinstance(name, str) or name in REFUSED_EVIDENCE:
        _refuse(name)
    kind = _TYPES.get(name)
    if kind is None:
        raise EvidenceInvalid("Unknown type of evidence.", field="type", known=sorted(EvidenceType))
    return kind


def _refuse(name: object) -> NoReturn:
    if not isinstance(name, str):
        raise EvidenceInvalid("An item of evidence needs a type.")
    raise EvidenceRefused(
        "Police penalty records are sealed by law and are never accepted as evidence.", refused=sorted(REFUSED_EVIDENCE)
    )


def parse_inspection(value: Any) -> Inspection:
    """Return the inspection of an item in a report's body. Raises EvidenceInvalid."""
    if type(value) is not dict or value.keys() - {"trust"} != {"receipt_sha256", "tool", "findings"}:
        raise EvidenceInvalid("An inspection has receipt_sha256, tool, findings and optionally trust.")
    tool, findings = value["tool"], value["findings"]
    if not isinstance(tool, str) or not _CODE.match(tool):
        raise EvidenceInvalid(f"An inspection's tool has 1 to {MAX_CODE_CHARS} characters.")
    if type(findings) is not list or len(findings) > MAX_INSPECTION_FINDINGS:
        raise EvidenceInvalid(f"An inspection has a list of at most {MAX_INSPECTION_FINDINGS} findings.")
    if not all(isinstance(code, str) and _FINDING_CODE.match(code) for code in findings):
        raise EvidenceInvalid("A finding of an inspection is a code: lower-case letters, digits and underscores.")
    if len(set(findings)) != len(findings):
        raise EvidenceInvalid("An inspection names each finding once.")
    try:
        return Inspection(unb64url(value["receipt_sha256"], 32), tool, tuple(findings), _trust(value))
    except InvalidEncoding as error:
        raise EvidenceInvalid("An inspection's receipt_sha256 is 32 bytes as base64url without padding.") from error


def _trust(value: Mapping[str, Any]) -> Trust | None:
    if "trust" not in value:
        return None
    name = value["trust"]
    trust = _TRUSTS.get(name) if isinstance(name, str) else None
    if trust is None:
        raise EvidenceInvalid("Unknown trust in a signer.", known=list(Trust))
    return trust


def _finding(value: Any) -> Finding:
    if type(value) is not dict or value.keys() - {"trust"} != {"code", "strength", "tool_version"}:
        raise EvidenceInvalid("A finding has code, strength, tool_version and optionally trust.")
    code, tool_version, strength = value["code"], value["tool_version"], value["strength"]
    for text in (code, tool_version):
        if not isinstance(text, str) or not _CODE.match(text):
            raise EvidenceInvalid(f"A finding's code and tool_version have 1 to {MAX_CODE_CHARS} characters.")
    level = _STRENGTHS.get(strength) if isinstance(strength, str) else None
    if level is None:
        raise EvidenceInvalid("A finding's strength is identifies, indicates or hint.")
    known, trust = _FINDING_CODES.get(code), _trust(value)
    if known is not None and level is not strength_of(known, trust) and not _was_so(known, level, trust):
        raise EvidenceInvalid(f"The strength of {code} is {strength_of(known, trust).value} with this trust.")
    return Finding(code, level, tool_version, trust)


def _was_so(known: FindingCode, strength: Strength, trust: Trust | None) -> bool:
    """True if recorded reports may say this of a code; `check_evidence` refuses it in new ones."""
    return known in FORMERLY_IDENTIFYING and strength is Strength.IDENTIFIES and trust is None


def check_evidence(conduct: Conduct, evidence: Sequence[Evidence]) -> None:
    """Check that `evidence` reaches the minimum of `conduct` for a new report.

    Raises EvidenceInsufficient with `details["missing"]`, the unmet needs of the alternative that came closest, or its
    leaf EvidenceOriginMissing where only the origin of an original file is missing; EvidenceInvalid for too many items
    and for a confirmation of a file that is no `original_file` of the report; EvidenceUntrusted for another tool's
    finding that is said to identify without a trusted signer. A detector never decides alone: an `ai_label` counts only
    where an inspection, or another tool's finding, identifies an original file of the report as made by AI under a
    trust list, and however many there are, all labels and confirmations are one proof.
    """
    if len(evidence) > MAX_EVIDENCE_ITEMS:
        raise EvidenceInvalid(f"A report has at most {MAX_EVIDENCE_ITEMS} items of evidence.")
    _check_claims(evidence)
    missing = _missing(conduct, evidence, Reading.INTAKE)
    if missing is None:
        return
    names = [str(need) for need in missing]
    if _missing(conduct, evidence, Reading.RECORDED) is None:
        raise EvidenceOriginMissing(
            "An original_file counts only with an origin that says it was uploaded with the claim, and when.",
            missing=names,
            conduct=conduct.value,
        )
    raise EvidenceInsufficient(
        f"The evidence for {conduct} falls short: {'; '.join(names)} missing.", missing=names, conduct=conduct.value
    )


def _check_claims(evidence: Sequence[Evidence]) -> None:
    """Check that no item claims more than the rules allow."""
    originals = _originals(evidence)
    for item in evidence:
        finding = item.finding
        if finding is not None and finding.strength is Strength.IDENTIFIES and finding.trust not in TRUSTED:
            raise EvidenceUntrusted(
                "A finding identifies only with the trust listed or interim: without a signature, or with that of "
                "another signer, it indicates at most.",
                trusts=sorted(TRUSTED),
            )
        if item.confirmation is not None and item.confirmation.file_sha256 not in originals:
            raise EvidenceInvalid("An issuer_confirmation is about an original_file of the report, by its sha256.")


def _originals(evidence: Sequence[Evidence]) -> set[bytes]:
    return {item.sha256 for item in evidence if item.type is EvidenceType.ORIGINAL_FILE}


def _missing(conduct: Conduct, evidence: Sequence[Evidence], reading: Reading) -> list[Need] | None:
    """Return the unmet needs of the alternative that comes closest; None where one is met."""
    fewest: list[Need] | None = None
    for alternative in MINIMUMS[conduct]:
        unmet = [need for need in alternative if not is_met(need, evidence, reading)]
        if not unmet:
            return None
        if fewest is None or len(unmet) < len(fewest):
            fewest = unmet
    return fewest


def is_met(need: Need, evidence: Sequence[Evidence], reading: Reading = Reading.INTAKE) -> bool:
    """True if `evidence` has enough different items for `need`."""
    fit = [item for item in evidence if item.type in need.of and _counts(item, reading)]
    if reading is Reading.INTAKE:  # a label of some other picture says nothing of the claim
        originals = _originals(evidence)
        fit = [item for item in fit if item.type is not EvidenceType.AI_LABEL or item.sha256 in originals]
    return any(_all_different(chosen) for chosen in combinations(fit, need.count))


def _counts(item: Evidence, reading: Reading) -> bool:
    """True if an item is what its type says. A code that this version does not know identifies nothing."""
    if item.type is EvidenceType.ORIGINAL_FILE:
        if item.origin is None:
            return reading is not Reading.INTAKE
        return item.origin.source is OriginSource.CLAIM_UPLOAD
    if item.type is EvidenceType.ISSUER_CONFIRMATION:
        return item.confirmation is not None and item.confirmation.verdict is Verdict.GENERATED
    if item.type is not EvidenceType.AI_LABEL:
        return True
    return identifies(item) or (reading is Reading.FORMER and formerly_identified(item))


def identifies(item: Evidence) -> bool:
    """True if the item's inspection, or another tool's finding, identifies its file as made by AI."""
    finding, inspection = item.finding, item.inspection
    if finding is not None and finding.strength is Strength.IDENTIFIES and finding.trust in TRUSTED:
        return True
    return inspection is not None and identifies_ai(inspection.findings, inspection.trust)


def formerly_identified(item: Evidence) -> bool:
    """True if the item says that its file was identified as made by AI, and says nothing of its signer: enough until
    labels had to be signed under a trust list, and no longer."""
    finding, inspection = item.finding, item.inspection
    if item.type is not EvidenceType.AI_LABEL or identifies(item):
        return False
    if finding is not None and finding.strength is Strength.IDENTIFIES and finding.trust is None:
        return True
    if inspection is None or inspection.trust is not None:
        return False
    return not FORMERLY_IDENTIFYING.isdisjoint(known_codes(inspection.findings))


def known_codes(codes: Sequence[str]) -> list[FindingCode]:
    """Return those of an inspection's codes that this version knows."""
    return [_FINDING_CODES[code] for code in codes if code in _FINDING_CODES]


def _all_different(chosen: Sequence[Evidence]) -> bool:
    """True if each of these items may count: they are different files and different linked reports, and there is no
    second `ai_label` or `issuer_confirmation`, because both are statements of the picture's producer."""
    linked = [item.report_id for item in chosen if item.report_id is not None]
    labels = [item for item in chosen if item.type in _WORD_OF_ISSUER]
    return len({item.sha256 for item in chosen}) == len(chosen) and len(set(linked)) == len(linked) and len(labels) <= 1
