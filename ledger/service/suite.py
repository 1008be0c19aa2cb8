"""The suite: which service this is and the public keys platforms pin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ledger.core.encoding import b64url
from ledger.core.policy import Policy
from ledger.core.voprf import SUITE
from ledger.service.keys import USED_STATES, ServerKeys
from ledger.settings import Settings

if TYPE_CHECKING:
    from ledger.service.runtime import Runtime


def suite(rt: Runtime) -> dict[str, Any]:
    """The answer of `GET /v1/suite`."""
    return describe(rt.settings, rt.keys, rt.policy)


def describe(settings: Settings, keys: ServerKeys, policy: Policy) -> dict[str, Any]:
    """The suite of a deployment: also what `platform add` writes down for a platform to pin."""
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
    }
