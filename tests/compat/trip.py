"""What a platform does with its SDK, as a program of its own: it runs under a frozen SDK and prints one JSON object.

Only what an SDK offers from its first version on is used: this file is not frozen, and every frozen SDK must run it.
"""

from __future__ import annotations

import inspect
import json
import secrets
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ledger
from ledger.client import Refund, RefundLedger, evidence
from ledger.errors import LedgerError

PHONE, CLEAN = "+86 138 0013 8000", "+86 138 0013 8001"
CONSENT = "separate-consent-2026-11-03-8842"


def outcome(work: Any) -> Any:
    """What `work` gives, or the code of its error."""
    try:
        return work()
    except LedgerError as error:
        return {"error": error.code, "message": str(error)}


def main(suite: str, key: str, state: str) -> dict[str, Any]:
    """Report, look up, check and read, in the order in which a platform meets them."""
    now = datetime.now(UTC)
    found: dict[str, Any] = {"package": str(Path(ledger.__file__).parent)}
    with RefundLedger(suite, key, state_dir=state, lookup_budget_seconds=20) as own:
        own.connect()
        buyer = own.subject(phone=PHONE)
        sent = own.report(
            buyer,
            conduct="fake_return_tracking",
            evidence=[evidence("carrier_record", sha256=secrets.token_bytes(32))],
            order=secrets.token_hex(8),
            amount_minor=12_900,
            currency="CNY",
            outcome="refund_refused",
            act_ended_at=now - timedelta(days=6),
            notice_sent_at=now - timedelta(days=4),
            notice_ref="notice-1",
            decided_by="agent-7",
            consent_ref=CONSENT,
        )
        assert sent.report is not None, sent.error
        found["report"] = sent.state
        found["receipt"] = own.receipt(sent.report, wait_seconds=20).report_id == sent.report.id
        found["view"] = own.get_report(sent.report.id).conduct
        refund = Refund(12_900, "CNY", "damaged")
        for name, who in (("clean", {"phone": CLEAN}), ("lookup", {"phone": PHONE})):
            looked = own.lookup(who, order="A-1", refund=refund, consent_ref=CONSENT, min_index=sent.report.entry_index)
            found[name] = [looked.tier, looked.source, looked.events, looked.unavailable_because]
        # The first SDKs have no consent_ref here; later ones need it.
        more = {"consent_ref": CONSENT} if "consent_ref" in inspect.signature(own.check).parameters else {}
        for policy in ("private", "download"):
            found[policy] = outcome(lambda policy=policy: own.check(buyer, policy=policy, refund=refund, **more).source)
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
