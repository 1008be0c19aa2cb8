"""Schemas of snapshots."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.common_schemas import Bytes32, Bytes64, Epoch, Time, Wire


class Manifest(Wire):
    """The manifest of a snapshot. The log's key signs its canonical JSON, which is also the body of the log's entry."""

    v: Literal[1]
    service: str
    version: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{22}$")]
    cut: Annotated[int, Field(ge=0, description="Entries of the log that it has seen.")]
    as_of: Time
    not_after: Annotated[
        Time, Field(description="Nothing may be answered from it from then on; at most 24 hours later.")
    ]
    epoch: Epoch
    policy: Annotated[int, Field(ge=1)]
    policy_sha256: Bytes32
    bits: Annotated[int, Field(ge=1, le=20, description="There are 2^bits buckets.")]
    capacity: Annotated[int, Field(ge=64, description="Entries of 128 bytes in each bucket.")]
    filter_bytes: Annotated[int, Field(ge=1)]
    filter_sha256: Bytes32
    tags: Annotated[int, Field(ge=0, description="Tags in the filter.")]
    buckets_root: Annotated[Bytes32, Field(description="Merkle root over all buckets.")]


class LatestSnapshot(Wire):
    """The newest snapshot with its proofs. Verify `proof` and `signature` before you use it."""

    version: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{22}$")]
    manifest: Manifest
    signature: Annotated[Bytes64, Field(description="Ed25519 by the log's key.")]
    leaf: Annotated[str, Field(description="The log's leaf, canonical JSON: its body is the manifest.")]
    proof: Annotated[str, Field(description="That the log holds the leaf: C2SP tlog-proof.")]
    policy_toml: Annotated[str, Field(description="The policy to fold with; its SHA-256 is in the manifest.")]
