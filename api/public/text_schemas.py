"""Schema of the texts of codes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.common_schemas import Wire
from api.platform.appeal_schemas import Locale

Texts = dict[str, str]


class CodeTexts(Wire):
    """Texts of codes in one language, by the member of an answer that has them. A later version may add codes and
    members: show a code without a text here unchanged."""

    locale: Locale
    reasons: Annotated[Texts, Field(description="Of a lookup: why a standing is what it is.")]
    guidance: Annotated[Texts, Field(description="Of a lookup: advice for a human step.")]
    tier: Annotated[Texts, Field(description="Of a lookup.")]
    matched_kinds: Annotated[Texts, Field(description="Kinds of identifiers.")]
    conduct: Annotated[Texts, Field(description="Of a report.")]
    status: Annotated[Texts, Field(description="Of a report.")]
    evidence: Annotated[Texts, Field(description="Types of evidence.")]
    findings: Annotated[Texts, Field(description="Of inspections: what was found, and what it does not prove.")]
    trust: Annotated[Texts, Field(description="Of a finding that is signed: how far the signer is known.")]
    source: Annotated[Texts, Field(description="Of an original file: where it came from; `null` is not known.")]
    verdict: Annotated[Texts, Field(description="Of an issuer's answer.")]
    former_label: Annotated[Texts, Field(description="Of a report, where it is true.")]
    outcome: Annotated[Texts, Field(description="Of a report: what became of the refund.")]
    reason: Annotated[Texts, Field(description="Of a withdrawal.")]
    grounds: Annotated[Texts, Field(description="Of an appeal.")]
    state: Annotated[Texts, Field(description="Of an appeal.")]
    action: Annotated[Texts, Field(description="Of an event in an appeal.")]
    by: Annotated[Texts, Field(description="Of an event in an appeal: who acted.")]
    case_outcome: Annotated[Texts, Field(description="Of a decided appeal (`decision.outcome`).")]
    purpose: Annotated[Texts, Field(description="Of a lookup's request.")]
    orders: Annotated[Texts, Field(description="Of a line of who looked: one order, or several.")]
    claim: Annotated[Texts, Field(description="Of a lookup's request.")]
