"""The suite: the identity of this service and the public keys that platforms pin."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ledger.protocol.encoding import b64url, format_time
from ledger.protocol.voprf import SUITE
from ledger.rules.policy.timeline import PolicyTimeline
from ledger.server.keys.files import USED_STATES, ServerKeys
from ledger.server.settings import Settings


def suite(settings: Settings, keys: ServerKeys, timeline: PolicyTimeline, now: datetime) -> dict[str, Any]:
    """Return the suite of a deployment at `now`, which is the response of `GET /v1/suite`; `platform add` writes it to
    a file. Raises PolicyUnreadable."""
    policy = timeline.entry_at(now)
    return {
        "service": settings.service,
        "environment": settings.environment,
        "suite": SUITE,
        "epochs": [
            {
                "epoch": row.epoch,
                "state": row.state,
                "holders": [{"id": row.holder, "url": None, "public_key": b64url(row.public_key)}],
                "entry_index": row.entry_index,
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
