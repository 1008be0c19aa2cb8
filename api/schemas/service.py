"""Schemas of the suite, of blinded evaluation and of health."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.schemas.common import Bytes32, Bytes64, Epoch, Wire

MAX_BATCH = 1000


class EvaluationRequest(Wire):
    """Blinded elements: blind x H(identifier), each 32 bytes, canonical ristretto255 and not the identity."""

    epoch: Epoch
    blinded: Annotated[list[Bytes32], Field(min_length=1, max_length=MAX_BATCH)]


class EvaluationShare(Wire):
    """One key holder's answer: an element for each blinded one, in order, and one DLEQ proof for all (RFC 9497)."""

    holder: str
    evaluated: list[Bytes32]
    proof: Bytes64


class EvaluationAnswer(Wire):
    """The sum of the shares, unblinded, is the element. Check every proof against the pinned keys first."""

    epoch: Epoch
    shares: list[EvaluationShare]


class Holder(Wire):
    """A key holder and its ristretto255 public key."""

    id: str
    url: str | None
    public_key: Bytes32


class SuiteEpoch(Wire):
    """A key epoch: `next` evaluates only, `previous` answers lookups only."""

    epoch: Epoch
    state: Literal["next", "current", "previous"]
    holders: list[Holder]
    entry_index: Annotated[int, Field(ge=0, description="The log's entry that announced these keys.")]


class LogKey(Wire):
    """The log's origin and its C2SP verifier key."""

    origin: str
    key: str


class Suite(Wire):
    """Which service this is. Compare it with what you pinned; never pin from here."""

    service: str
    environment: Literal["live", "test"]
    suite: Literal["ristretto255-SHA512"]
    epochs: list[SuiteEpoch]
    log: LogKey
    policy: Annotated[int, Field(ge=1, description="Version of the policy in effect.")]


class Health(Wire):
    """The process runs."""

    status: Literal["ok"]


class Checks(Wire):
    """What a process needs to serve everything."""

    appender: Literal["ok", "stopped"]
    lookups: Literal["ok", "stopped"]
    presence: Annotated[Literal["ok", "stopped"], Field(description="What answers clean lookups from memory.")]
    snapshots: Annotated[Literal["ok", "stopped"], Field(description="What looks for published snapshots.")]
    members: Literal["ok", "stale"]


class Readiness(Wire):
    """Whether this process can do everything. With a frozen log reads still answer, though it is `not_ready`."""

    status: Literal["ready", "not_ready"]
    database: Literal["ok", "unavailable"]
    log: Literal["ok", "frozen", "unknown"]
    checks: Checks
