"""Inspections in a referral: those in the reports, and the facts of the full receipts that match them.

A report contains the digest and the codes of an inspection; its facts stay with the platform. A full receipt is
accepted only if it is about a file that a report names and, if the report contains a digest, has exactly this digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger.errors import ConfigurationError, InspectionMismatch, InspectionReceiptInvalid
from ledger.evidence.findings import Fact, fit
from ledger.evidence.formats.metadata import clean
from ledger.evidence.receipt import (
    MAX_RECEIPT_BYTES,
    Conclusion,
    check_form,
    conclusion_of,
    receipt_digest,
    receipt_trust,
)
from ledger.protocol.encoding import unb64url
from ledger.rules.conduct import FORMERLY_IDENTIFYING, Evidence
from ledger.rules.findings import CODES, SIGNED, About, FindingCode, Strength, Trust, strength_of

MAX_FILE_BYTES = 64 * MAX_RECEIPT_BYTES
SHOWN_FACTS = frozenset(
    {
        *("label", "producer", "producer_name", "credit_code", "produce_id", "propagator", "propagate_id", "problems"),
        *("software", "generator", "signer", "trust", "source_type", "validation", "name", "samplers", "parameters"),
        *("missing",),
        *("steps", "correlation_percent", "said", "real", "quality", "maker"),
        *("listing_sha256", "overlap_percent", "changed_percent", "changed_box", "mirrored", "pdq_distance", "inliers"),
    }
)
"""Facts that the texts use, and codes that an issuer can look up. Free texts of a file are left out: they may name
people."""

_CODES: dict[object, FindingCode] = {code.value: code for code in FindingCode}
_TRUSTS: dict[object, Trust] = {trust.value: trust for trust in Trust}
_CONCLUSIONS: dict[object, Conclusion] = {conclusion.value: conclusion for conclusion in Conclusion}


@dataclass(frozen=True, slots=True)
class ReferredFinding:
    """A finding. `where` and `facts` are None if only the code in the report is known. `strength` and `about` are None
    for a code that this version does not know. `trust` is the trust in the signature on which the finding is based;
    None if it is based on no signature or the trust is unknown."""

    code: str
    strength: Strength | None
    about: About | None
    trust: Trust | None = None
    where: str | None = None
    facts: Mapping[str, Fact] | None = None

    @property
    def known(self) -> FindingCode | None:
        """The code, if this version knows it."""
        return _CODES.get(self.code)


@dataclass(frozen=True, slots=True)
class ReferredInspection:
    """The inspection of one file of evidence.

    `in_report`: the signed report contains the digest of this receipt. `conclusion` and `complete` are None without a
    full receipt.
    """

    sha256: bytes
    tool: str
    receipt_sha256: bytes
    in_report: bool
    findings: tuple[ReferredFinding, ...]
    conclusion: Conclusion | None = None
    complete: bool | None = None


Receipts = Mapping[bytes, Mapping[str, Any]]
"""Full receipts by the SHA-256 of the file."""


def read_receipts(paths: Sequence[Path]) -> Receipts:
    """Return the receipts in files: single receipts, or outputs of `refund-ledger inspect --json`.

    Raises ConfigurationError (a file cannot be read as JSON), InspectionReceiptInvalid, and InspectionMismatch for two
    different receipts of one file.
    """
    receipts: dict[bytes, Mapping[str, Any]] = {}
    for path in paths:
        for value in _receipts_in(path):
            receipt = _checked(value)
            sha256 = unb64url(receipt["file"]["sha256"], 32)
            if receipts.setdefault(sha256, receipt) != receipt:
                raise InspectionMismatch("Two different receipts were given of one file.", file_sha256=sha256.hex())
    return receipts


def inspections(evidence: Sequence[Evidence], receipts: Receipts) -> tuple[ReferredInspection, ...]:
    """Return the inspections of the files that one report names, each file once.

    Raises InspectionMismatch if a receipt is not the one that the report names.
    """
    carried = {item.sha256: item.inspection for item in evidence if item.inspection is not None}
    results = []
    for sha256 in dict.fromkeys(item.sha256 for item in evidence):
        reported, receipt = carried.get(sha256), receipts.get(sha256)
        if receipt is not None:
            digests = {item.inspection.receipt_sha256 for item in evidence if item.sha256 == sha256 and item.inspection}
            digest = receipt_digest(receipt)
            trusts = {item.inspection.trust for item in evidence if item.sha256 == sha256 and item.inspection}
            if digests - {digest} or trusts - {receipt_trust(receipt)}:
                raise InspectionMismatch(
                    "The receipt is not the one that the report carries of this file.", file_sha256=sha256.hex()
                )
            results.append(_from_receipt(sha256, receipt, digest, in_report=bool(digests)))
        elif reported is not None:
            findings = tuple([_finding(code, reported.trust) for code in reported.findings])
            results.append(ReferredInspection(sha256, reported.tool, reported.receipt_sha256, True, findings))
    return tuple(results)


def check_all_used(receipts: Receipts, evidence: Sequence[Evidence]) -> None:
    """Check that each receipt is about a file that a report names. Raises InspectionMismatch."""
    unused = receipts.keys() - {item.sha256 for item in evidence}
    if unused:
        raise InspectionMismatch(
            "A receipt is of a file that none of these reports names.",
            file_sha256=sorted(digest.hex() for digest in unused),
        )


def _receipts_in(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InspectionReceiptInvalid(f"{path.name} has more than {MAX_FILE_BYTES} bytes.")
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path.name} cannot be read as JSON.") from error
    if isinstance(value, dict) and isinstance(value.get("files"), list):
        return [file.get("receipt") if isinstance(file, dict) else None for file in value["files"]]
    return [value]


def _checked(value: object) -> Mapping[str, Any]:
    receipt = check_form(value)
    for finding in receipt["findings"]:
        known = _CODES.get(finding["code"])
        trust = _TRUSTS.get(finding["facts"].get("trust"))
        expected = None if known is None else strength_of(known, trust)
        if receipt["v"] == 1 and known in FORMERLY_IDENTIFYING:
            expected = Strength.IDENTIFIES
        if expected is not None and finding["strength"] != expected.value:
            raise InspectionReceiptInvalid(f"The strength of {finding['code']} is {expected.value} in such a file.")
        if not all(_is_fact(fact) for fact in finding["facts"].values()):
            raise InspectionReceiptInvalid("A finding's facts are texts, whole numbers or lists of texts.")
    return receipt


def _is_fact(value: object) -> bool:
    if isinstance(value, list):
        return all(type(item) is str for item in value) or all(type(item) is int for item in value)
    return type(value) in (str, int)


def _from_receipt(sha256: bytes, receipt: Mapping[str, Any], digest: bytes, *, in_report: bool) -> ReferredInspection:
    findings = tuple(
        [_finding(item["code"], _TRUSTS.get(item["facts"].get("trust")), item) for item in receipt["findings"]]
    )
    conclusion = _CONCLUSIONS.get(receipt["conclusion"])
    if conclusion is not None:  # by the present rules, not by those of the version that wrote it
        conclusion = conclusion_of(
            (finding.code, finding.strength.value if finding.strength else "") for finding in findings
        )
    return ReferredInspection(
        sha256, clean(receipt["tool"]), digest, in_report, findings, conclusion, receipt["complete"]
    )


def _finding(code: str, trust: Trust | None, full: Mapping[str, Any] | None = None) -> ReferredFinding:
    known = _CODES.get(code)
    own = trust if known in SIGNED else None
    strength, about = (strength_of(known, own), CODES[known][1]) if known is not None else (None, None)
    if full is None:
        return ReferredFinding(code, strength, about, own)
    facts = {name: fit(value) for name, value in sorted(full["facts"].items()) if name in SHOWN_FACTS}
    return ReferredFinding(code, strength, about, own, clean(full["where"], 80), facts)
