"""Inspections in a referral: what the reports carry, and the facts of full receipts that fit them.

A report carries the digest and the codes of an inspection; its facts stay with the platform. A full receipt is taken
only if it is of a file that a report names, and, where the report carries a digest, the very receipt that was reported.
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
"""Facts that the sentences use and codes that an issuer can look up. Free texts of a file may name people: left out."""

_CODES: dict[object, FindingCode] = {code.value: code for code in FindingCode}
_TRUSTS: dict[object, Trust] = {one.value: one for one in Trust}
_CONCLUSIONS: dict[object, Conclusion] = {one.value: one for one in Conclusion}


@dataclass(frozen=True, slots=True)
class Found:
    """A finding. `where` and `facts` are None where only the report's code is known; `strength` and `about` are None
    for a code that this version does not know; `trust` is what stands behind the signature that it rests on, None where
    it rests on none, or none is known."""

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
class Inspected:
    """The inspection of one file of evidence.

    `in_report`: the signed report carries this receipt's digest. `conclusion` and `complete` are None where no full
    receipt was given.
    """

    sha256: bytes
    tool: str
    receipt_sha256: bytes
    in_report: bool
    findings: tuple[Found, ...]
    conclusion: Conclusion | None = None
    complete: bool | None = None


Receipts = Mapping[bytes, Mapping[str, Any]]
"""Full receipts by the SHA-256 of the file."""


def read_receipts(paths: Sequence[Path]) -> Receipts:
    """The receipts in files as `refund-ledger inspect --json` writes them, or single ones.

    Raises ConfigurationError (a file cannot be read as JSON), InspectionReceiptInvalid, and InspectionMismatch for two
    different receipts of one file.
    """
    found: dict[bytes, Mapping[str, Any]] = {}
    for path in paths:
        for value in _receipts_in(path):
            receipt = _checked(value)
            sha256 = unb64url(receipt["file"]["sha256"], 32)
            if found.setdefault(sha256, receipt) != receipt:
                raise InspectionMismatch("Two different receipts were given of one file.", file_sha256=sha256.hex())
    return found


def inspections(evidence: Sequence[Evidence], receipts: Receipts) -> tuple[Inspected, ...]:
    """The inspections of the files that one report names, each file once. Raises InspectionMismatch."""
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
            found = tuple([_found(code, reported.trust) for code in reported.findings])
            results.append(Inspected(sha256, reported.tool, reported.receipt_sha256, True, found))
    return tuple(results)


def check_all_used(receipts: Receipts, evidence: Sequence[Evidence]) -> None:
    """That each receipt is of a file that some report names. Raises InspectionMismatch."""
    unused = receipts.keys() - {item.sha256 for item in evidence}
    if unused:
        raise InspectionMismatch(
            "A receipt is of a file that none of these reports names.", file_sha256=sorted(one.hex() for one in unused)
        )


def _receipts_in(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InspectionReceiptInvalid(f"{path.name} has more than {MAX_FILE_BYTES} bytes.")
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path.name} cannot be read as JSON.") from error
    if isinstance(value, dict) and isinstance(value.get("files"), list):
        return [one.get("receipt") if isinstance(one, dict) else None for one in value["files"]]
    return [value]


def _checked(value: object) -> Mapping[str, Any]:
    receipt = check_form(value)
    for one in receipt["findings"]:
        known = _CODES.get(one["code"])
        trust = _TRUSTS.get(one["facts"].get("trust"))
        right = None if known is None else strength_of(known, trust)
        if receipt["v"] == 1 and known in FORMERLY_IDENTIFYING:
            right = Strength.IDENTIFIES
        if right is not None and one["strength"] != right.value:
            raise InspectionReceiptInvalid(f"The strength of {one['code']} is {right.value} in such a file.")
        if not all(_is_fact(fact) for fact in one["facts"].values()):
            raise InspectionReceiptInvalid("A finding's facts are texts, whole numbers or lists of texts.")
    return receipt


def _is_fact(value: object) -> bool:
    if isinstance(value, list):
        return all(type(one) is str for one in value) or all(type(one) is int for one in value)
    return type(value) in (str, int)


def _from_receipt(sha256: bytes, receipt: Mapping[str, Any], digest: bytes, *, in_report: bool) -> Inspected:
    found = tuple([_found(one["code"], _TRUSTS.get(one["facts"].get("trust")), one) for one in receipt["findings"]])
    conclusion = _CONCLUSIONS.get(receipt["conclusion"])
    if conclusion is not None:  # by the present rules, whatever those of its version were
        conclusion = conclusion_of((one.code, one.strength.value if one.strength else "") for one in found)
    return Inspected(sha256, clean(receipt["tool"]), digest, in_report, found, conclusion, receipt["complete"])


def _found(code: str, trust: Trust | None, one: Mapping[str, Any] | None = None) -> Found:
    known = _CODES.get(code)
    own = trust if known in SIGNED else None
    strength, about = (strength_of(known, own), CODES[known][1]) if known is not None else (None, None)
    if one is None:
        return Found(code, strength, about, own)
    facts = {name: fit(value) for name, value in sorted(one["facts"].items()) if name in SHOWN_FACTS}
    return Found(code, strength, about, own, clean(one["where"], 80), facts)
