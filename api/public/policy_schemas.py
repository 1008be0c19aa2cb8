"""Schemas of the published policies."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.common_schemas import Bytes32, Time, Wire


class PublishedPolicy(Wire):
    """A policy, as published by its entry in the log. `toml_sha256` pins its text."""

    version: Annotated[int, Field(ge=1)]
    toml_sha256: Bytes32
    published_at: Time
    in_effect_at: Annotated[
        Time, Field(description="A UTC midnight, at least 7 days after publication; the first policy is exempt.")
    ]
    entry_index: Annotated[int, Field(ge=0, description="The log's entry that published it.")]


class PolicyList(Wire):
    """All policies of this ledger, oldest first."""

    in_effect: Annotated[int, Field(ge=1, description="Version of the policy in effect.")]
    policies: list[PublishedPolicy]


class PolicyDocument(PublishedPolicy):
    """A policy with its text."""

    toml: Annotated[str, Field(description="The text, TOML. Compare its SHA-256 (of the UTF-8 bytes) with the log's.")]
