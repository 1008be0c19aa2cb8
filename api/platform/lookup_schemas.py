"""Schemas of direct lookups."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.common_schemas import (
    AmountMinor,
    Bytes16,
    Bytes32,
    Bytes64,
    CheckedReference,
    Currency,
    Epoch,
    Kind,
    Problem,
    Time,
    Wire,
)
from ledger.protocol.encoding import MAX_INTEGER
from ledger.protocol.public_ids import id_pattern

MAX_BATCH = 1000
MAX_SUBJECTS = 8


class TaggedSubject(Wire):
    """An identifier of the person as its tag (docs/protocol.md)."""

    kind: Kind
    tag: Bytes32


class Refund(Wire):
    """The requested refund. It affects the guidance only."""

    amount_minor: AmountMinor
    currency: Currency
    claim: Literal["damaged", "not_received", "not_as_described", "returned", "other"]


class Lookup(Wire):
    """One person, by 1 to 8 of their identifiers, and the purpose of the lookup."""

    epoch: Epoch
    subjects: Annotated[list[TaggedSubject], Field(min_length=1, max_length=MAX_SUBJECTS)]
    purpose: Literal["refund_review", "appeal"]
    order_ref: Bytes32
    consent_ref: Annotated[
        CheckedReference | None,
        Field(
            description=(
                "Where the person's separate consent is recorded at the platform. Required where the policy in effect "
                "asks for it under the platform's profile (CN). Never an identifier of a person."
            )
        ),
    ] = None
    refund: Refund | None = None
    min_index: Annotated[
        int | None,
        Field(ge=0, le=MAX_INTEGER, description="Answer only from a log of at least this many entries."),
    ] = None
    nonce: Annotated[
        Bytes16 | None,
        Field(description="16 random bytes of your own, fresh for each lookup. The answer repeats them."),
    ] = None


class LookupBatch(Wire):
    """1 to 1000 lookups. Each succeeds or fails on its own."""

    lookups: Annotated[list[Lookup], Field(min_length=1, max_length=MAX_BATCH)]


class LookupItems(Wire):
    """A batch before its items are parsed."""

    lookups: Annotated[list[Any], Field(min_length=1, max_length=MAX_BATCH)]


class LookupAnswer(Wire):
    """A credit standing. It never says "deny": a refusal needs a human decision and a fresh direct lookup."""

    id: Annotated[str, Field(pattern=f"^{id_pattern('lk')}$")]
    tier: Literal["clear", "watch", "review", "high"]
    credit: Annotated[int, Field(ge=0, le=100, description="100 is a clean record.")]
    points: Annotated[float, Field(ge=0)]
    events: Annotated[int, Field(ge=0)]
    reporters: Annotated[int, Field(ge=0, description="Independent members whose reports count.")]
    disputed: bool
    protected: Annotated[bool, Field(description="The person's account was abused by somebody else.")]
    has_statement: bool
    reasons: Annotated[list[str], Field(max_length=4, description="Codes; `GET /v1/texts/{locale}` has their texts.")]
    guidance: Annotated[list[str], Field(description="Advice for a human step.")]
    matched_kinds: list[Kind]
    policy: Annotated[int, Field(ge=1, description="Version of the policy that it was folded under.")]
    as_of_index: Annotated[int, Field(ge=0, description="The answer saw entries 0 to as_of_index - 1 of the log.")]
    as_of: Time
    expires_at: Time
    service: Annotated[str, Field(description="The service that answers, as `GET /v1/suite` names it.")]
    environment: Literal["live", "test"]
    platform: Annotated[str, Field(description="The platform that asked.")]
    epoch: Epoch
    nonce: Annotated[Bytes16 | None, Field(description="The question's. Null if it had none.")]
    question: Annotated[
        Bytes32,
        Field(
            description="SHA-256 of `refund-ledger question v1`, the nonce and the request without it (docs/api.md)."
        ),
    ]
    key_id: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9._-]{1,32}$", description="Of the key that signed.")]
    signature: Annotated[Bytes64 | None, Field(description="Null: answers are not signed.")]
    padding: Annotated[str, Field(description="Gives every answer the same size.")]


class LookupDone(Wire):
    """A lookup of the batch that was answered."""

    status: Literal[200]
    lookup: LookupAnswer


class LookupRefused(Wire):
    """A lookup of the batch that was refused."""

    status: Annotated[int, Field(ge=400, le=599)]
    problem: Problem


class LookupBatchResult(Wire):
    """One result for each lookup, in order."""

    results: list[LookupDone | LookupRefused]
