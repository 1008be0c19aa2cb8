"""Inspecting evidence on the platform's own machine. The extra `evidence` is loaded at the first call, not before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.client.reports import evidence
from ledger.core.conduct import Evidence

if TYPE_CHECKING:
    from ledger.evidence.receipt import Agreement, Receipt


def inspect(file: str | Path) -> Receipt:
    """What `file` says about its origin: findings and notes, with where in the file each was made.

    Nothing is sent anywhere. Raises EvidenceUnreadable, EvidenceTooLarge, EvidenceFormatUnknown, EvidenceMalformed, and
    ConfigurationError where the extra `evidence` is not installed.
    """
    from ledger.evidence.inspection import inspect_file

    return inspect_file(file)


def inspected_evidence(type: str, file: str | Path) -> Evidence:
    """An item of evidence with what an inspection of `file` found: for an `original_file`, an `ai_label` and the like.

    Raises what `evidence` and `inspect` raise.
    """
    return evidence(type, file=file, inspection=inspect(file).in_report())


def verify_inspection(file: str | Path, receipt: Mapping[str, Any]) -> Agreement:
    """Whether `file` bears out a receipt of an inspection, given as JSON values.

    Raises InspectionReceiptInvalid, and what `inspect` raises.
    """
    from ledger.evidence.inspection import verify_file

    return verify_file(file, receipt)
