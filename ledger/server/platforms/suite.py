"""The suite: the identity of this service and the public keys that platforms pin."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ledger.protocol.encoding import b64url, format_time
from ledger.protocol.voprf import SUITE
from ledger.rules.policy.timeline import PolicyTimeline
from ledger.server.keys.epochs import EpochRow
from ledger.server.keys.files import USED_STATES
from ledger.server.keys.server_keys import ServerKeys
from ledger.server.settings import Settings


def suite(settings: Settings, keys: ServerKeys, timeline: PolicyTimeline, now: datetime) -> dict[str, Any]:
    """Return the suite of a deployment at `now`, which is the response of `GET /v1/suite`; `platform add` writes it to
    a file."""
    policy = timeline.entry_at(now)
    return {
        "service": settings.service,
        "environment": settings.environment,
        "suite": SUITE,
        "epochs": [
            {
                "epoch": row.epoch,
                "state": row.state,
                "generation": row.generation,
                "threshold": row.threshold,
                "public_key": b64url(row.public_key),
                "holders": _holders(row),
                "entry_index": row.entry_index if row.statement_index is None else row.statement_index,
            }
            for row in keys.rows
            if row.state in USED_STATES
        ],
        "log": {"origin": settings.origin, "key": keys.log_verifier_key},
        "policy": policy.version,
        "policy_sha256": b64url(policy.sha256),
        "next_policies": [
            {"version": entry.version, "sha256": b64url(entry.sha256), "in_effect_at": format_time(entry.in_effect_at)}
            for entry in timeline.announced(now)
        ],
    }


def _holders(row: EpochRow) -> list[dict[str, Any]]:
    """Return the key holders of an epoch. Of the one holder of a whole key (1 of 1) only id and key are known: the
    operator is that holder."""
    if not row.is_shared:
        return [{"id": row.holder, "url": None, "public_key": b64url(row.public_key)}]
    return [
        {
            "id": holder.holder,
            "index": holder.index,
            "public_key": b64url(holder.public_key),
            "url": holder.url,
            "signing_key": b64url(holder.signing_key),
            "organisation": holder.organisation,
            "operator": holder.operator,
        }
        for holder in row.holders
    ]
