"""Schemas of the suite, of blinded evaluation and of health."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.common_schemas import Bytes32, Bytes64, Epoch, Time, Wire

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
    """A key holder and its ristretto255 public key. The members about a share are there where several holders share the
    key; of the one holder of a whole key (1 of 1) `url` is null, because this service evaluates."""

    id: str
    url: Annotated[str | None, Field(description="Where the holder evaluates: `POST {url}/v1/oprf/evaluate`.")]
    public_key: Annotated[Bytes32, Field(description="K_i, or K of a whole key.")]
    index: Annotated[int | None, Field(ge=1, le=255, description="The index of the share.")] = None
    signing_key: Annotated[Bytes32 | None, Field(description="Ed25519 key that signs statements and cards.")] = None
    organisation: str | None = None
    operator: Annotated[bool | None, Field(description="Whether the organisation is the operator.")] = None


class SuiteEpoch(Wire):
    """A key epoch: `next` evaluates only, `previous` answers lookups only. Any `threshold` of the holders evaluate
    together; with one holder the operator alone can evaluate."""

    epoch: Epoch
    state: Literal["next", "current", "previous"]
    generation: Annotated[int, Field(ge=1, description="Number of the newest sharing of this epoch's key.")]
    threshold: Annotated[int, Field(ge=1, le=255)]
    public_key: Annotated[Bytes32, Field(description="K, the public key of the epoch.")]
    holders: list[Holder]
    entry_index: Annotated[
        int,
        Field(
            ge=0,
            description="The log's entry that announced these keys; with several holders, the one with the statement "
            "of this sharing.",
        ),
    ]


class LogKey(Wire):
    """The log's origin and its C2SP verifier key."""

    origin: str
    key: str


class NextPolicy(Wire):
    """A policy that is published and not in effect yet. `GET /v1/policies/{version}` has its text."""

    version: Annotated[int, Field(ge=1)]
    sha256: Bytes32
    in_effect_at: Annotated[Time, Field(description="A UTC midnight.")]


class Suite(Wire):
    """The identity of this service. Compare it with your pinned suite; never pin from here."""

    service: str
    environment: Literal["live", "test"]
    suite: Literal["ristretto255-SHA512"]
    epochs: list[SuiteEpoch]
    log: LogKey
    policy: Annotated[int, Field(ge=1, description="Version of the policy in effect.")]
    policy_sha256: Annotated[Bytes32, Field(description="SHA-256 of its text, as the log pins it.")]
    next_policies: Annotated[list[NextPolicy], Field(description="In the order in which they come into effect.")]


class Health(Wire):
    """The process runs."""

    status: Literal["ok"]


Progress = Literal["ok", "failing", "stuck", "stopped"]


class Checks(Wire):
    """The states of a process's parts: `failing` for some time, `stuck` in one call, `stopped`."""

    appender: Annotated[Progress, Field(description="What commits reports and other writes.")]
    lookups: Annotated[Progress, Field(description="What answers lookups from the database.")]
    filter: Annotated[Literal["ok", "building"], Field(description="Listed tags in memory; built once at the start.")]
    presence: Annotated[Progress, Field(description="What answers clean lookups from memory.")]
    members: Annotated[Literal["ok", "stale"], Field(description="Platforms and keys are not older than 5 seconds.")]
    policy: Annotated[Literal["ok", "unreadable"], Field(description="Whether this version reads the one in effect.")]
    snapshots: Annotated[Progress, Field(description="What looks for published snapshots.")]
    webhooks: Annotated[Progress, Field(description="What sends webhooks. Not counted in `status`.")]
    clocks: Annotated[
        Progress, Field(description="The clocks of appeals; `failing_jobs` says what fails. Not counted in `status`.")
    ]
    upkeep: Annotated[
        Progress,
        Field(description="Erasure and other upkeep; `failing_jobs` says what fails. Not counted in `status`."),
    ]


class KeysHeld(Wire):
    """Who holds the current key, in numbers. With a threshold of 1 one holder has the whole key."""

    epoch: Epoch
    generation: Annotated[int, Field(ge=1)]
    threshold: Annotated[int, Field(ge=1)]
    holders: Annotated[int, Field(ge=1)]


class Readiness(Wire):
    """Whether this process can answer lookups (`/readyz`) or take reports (`/readyz/write`), and the states of its
    parts. Both paths answer with the same members; `status` is the result for the path."""

    status: Literal["ready", "not_ready"]
    database: Literal["ok", "not_writable", "unavailable"]
    log: Literal["ok", "frozen", "unknown"]
    publisher: Annotated[
        Literal["ok", "absent", "unknown"], Field(description="Whether a publisher signs. Not counted in `status`.")
    ]
    clock: Annotated[
        Literal["ok", "differs", "unknown"],
        Field(description="Whether this machine's clock is the database's, to 5 seconds. Not counted in `status`."),
    ]
    checks: Checks
    failing_jobs: Annotated[
        list[str],
        Field(description="Jobs of maintenance that have failed for a while, by name. Not counted in `status`."),
    ]
    keys: KeysHeld
