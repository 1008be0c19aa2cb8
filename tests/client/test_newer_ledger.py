"""Readers of this version go on when the ledger is of a later one, and nothing becomes a wrong standing."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ledger.cli import app
from ledger.client import Query, verify_webhook
from ledger.client.verify.receipts import check_offline
from ledger.errors import InvalidManifest, LedgerError, NewerFormat
from ledger.protocol.encoding import b64url, canonical_json, format_time
from ledger.rules.webhooks import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, parse_secret, signature_header
from tests.client.newer_ledger import CASE, FURTHER, NEW_CONDUCT, REPORT, NewerLedger, further, newer_ledger
from tests.client.small_ledger import MANIFEST_LINE, ORIGIN
from tests.kit import report_arguments
from tests.support import CONSENT

PHONE, CLEAN = "+86 138 0013 8000", "+86 138 0013 8001"


@pytest.fixture
def newer(tmp_path: Path) -> Iterator[NewerLedger]:
    """A ledger of a later version that is being served."""
    with newer_ledger(tmp_path) as ledger:
        yield ledger


def publish(ledger: NewerLedger, **changes: Any) -> None:
    ledger.publish({("phone", PHONE): [ledger.event()]}, **changes)


# --- lookups ----------------------------------------------------------------------------------------------------------

LATER = {
    "tier": "watch", "credit": 80, "points": 2, "events": 1, "reporters": 1, "matched_kinds": ["phone", "iris"],
    "reasons": ["one_reporter_only", "item_swapped"], "guidance": ["ask_for_serial_number"],
}  # fmt: skip


def test_a_lookup_keeps_codes_that_it_does_not_know(newer: NewerLedger) -> None:
    newer.lookup = LATER
    with newer.connect(lookup_budget_seconds=5) as ledger:
        lookup = ledger.lookup({"phone": PHONE}, order="a")
        many = ledger.lookup_many([Query(newer.buyer({"phone": PHONE}), "b")])
    for outcome in (lookup, many[0]):
        assert not isinstance(outcome, LedgerError)
        assert (outcome.tier, outcome.credit, outcome.matched_kinds) == ("watch", 80, ("phone", "iris"))
        assert outcome.guidance == ("ask_for_serial_number",)
        assert [(reason.code, reason.en) for reason in outcome.reasons][1] == ("item_swapped", "A text (en).")


def test_a_tier_of_a_later_version_is_unavailable_and_never_clear(newer: NewerLedger) -> None:
    """Also where the local filter would say clear: the ledger did answer, and it did not say so."""
    publish(newer)
    newer.lookup = {**LATER, "tier": "caution", "disputed": True}
    with newer.connect(lookup_budget_seconds=5) as ledger:
        ledger.refresh_snapshot()
        lookup = ledger.lookup({"phone": CLEAN}, order="a")
        many = ledger.lookup_many([Query(newer.buyer({"phone": CLEAN}), "b")])
    for outcome in (lookup, many[0]):
        assert not isinstance(outcome, LedgerError)
        assert (outcome.tier, outcome.available, outcome.unavailable_because) == ("unavailable", False, "unknown_tier")
        assert (outcome.credit, outcome.points, outcome.guidance, outcome.source) == (None, None, (), "direct")
        assert (outcome.id, outcome.disputed, outcome.events) == ("lk_1", True, 1)


# --- the log ----------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_the_log_is_verified_with_entries_of_later_versions(newer: NewerLedger, tmp_path: Path) -> None:
    newer.append_leaf("witness_policy", {})
    publish(newer)
    newer.append_leaf("snapshot", {"v": 2, "shape": "another"})
    suite = tmp_path / "acme.suite.json"
    suite.write_text(json.dumps(newer.suite_file(profile="CN")))
    command = ["verify", "--suite", str(suite), "--state", str(tmp_path / "seen")]
    done = run(*command, "--json")
    facts = json.loads(done.output)
    assert done.exit_code == 0
    assert (facts["verified"], facts["size"], facts["unknown_entries"]) == (True, 5, {"witness_policy": 2})
    assert "2 of type witness_policy" in " ".join(run(*command).output.split())


def test_a_rotation_is_followed_with_further_members_and_an_epoch_in_another_state(newer: NewerLedger) -> None:
    newer.announce(2)
    newer.switch(2)
    with newer.connect(suite=newer.suite_file(profile="CN"), lookup_budget_seconds=5) as ledger:
        assert ledger.current_epoch() == 2
        assert ledger.lookup({"phone": PHONE}, order="a", consent_ref=CONSENT).tier == "clear"


# --- snapshots --------------------------------------------------------------------------------------------------------


def test_checks_go_on_with_further_members_of_the_manifest(newer: NewerLedger) -> None:
    publish(newer)
    with newer.connect(suite=newer.suite_file(profile="CN")) as ledger:
        for way in ("download", "private"):
            assert ledger.check({"phone": PHONE}, policy=way, consent_ref=CONSENT).tier == "watch"
            assert ledger.check({"phone": CLEAN}, policy=way, consent_ref=CONSENT).tier == "clear"


@pytest.mark.parametrize("place", ["manifest", "leaf"])
def test_further_members_of_the_manifest_are_under_the_signature(newer: NewerLedger, place: str) -> None:
    """What was received is verified, not what was understood of it."""
    publish(newer)
    latest = newer.published[-1].latest
    if place == "manifest":
        newer.forge_latest(manifest={**latest["manifest"], "x_added": "altered"})
    else:  # signed by the log, but for this member alone
        other = {**latest["manifest"], "x_added": "for one member"}
        signature = b64url(newer.log_key.sign(MANIFEST_LINE + canonical_json(other)))
        newer.forge_latest(manifest=other, signature=signature)
    with newer.connect() as ledger, pytest.raises(InvalidManifest):
        ledger.check({"phone": PHONE})


def test_a_later_format_is_named_and_the_earlier_snapshot_goes_on(newer: NewerLedger) -> None:
    publish(newer)
    with newer.connect() as ledger:
        assert ledger.check({"phone": PHONE}).tier == "watch"
        body = {"v": 2, "shape": "another"}
        newer.forge_latest(manifest=body, signature=b64url(newer.log_key.sign(MANIFEST_LINE + canonical_json(body))))
        ledger.refresh_snapshot()
        assert ledger.check({"phone": PHONE}).tier == "watch"
    with newer.connect("without") as ledger, pytest.raises(NewerFormat) as caught:
        ledger.check({"phone": PHONE})
    assert (caught.value.code, caught.value.details["format"]) == ("newer_format", 2)


def test_checks_go_on_with_a_policy_of_a_later_version(newer: NewerLedger) -> None:
    newer.later_policy = True
    publish(newer)
    with newer.connect() as ledger:
        checks = [ledger.check({"phone": PHONE}, policy=way) for way in ("download", "private")]
    assert [(check.tier, check.policy) for check in checks] == [("watch", str(newer.policy()[1]))] * 2


def test_a_policy_that_cannot_be_read_is_a_later_format(newer: NewerLedger) -> None:
    class Unreadable(NewerLedger):
        """A ledger whose policy has another shape."""

        def policy(self) -> tuple[str, int]:
            return 'version = 9\nshape = "another"\n', 9

    publish(newer)
    with newer.connect() as ledger:
        assert ledger.check({"phone": PHONE}).tier == "watch"
        newer.__class__ = Unreadable
        publish(newer)
        ledger.refresh_snapshot()
        assert ledger.check({"phone": PHONE}).tier == "watch"
    with newer.connect("without") as ledger, pytest.raises(NewerFormat):
        ledger.check({"phone": PHONE})


def test_a_conduct_of_a_later_version_counts_by_its_severity(newer: NewerLedger) -> None:
    newer.later_policy, newer.sealed_form = True, 2
    publish(newer)
    with newer.connect() as ledger:
        checks = [ledger.check({"phone": PHONE}, policy=way) for way in ("download", "private")]
        assert ledger.check({"phone": CLEAN}).tier == "clear"
    assert all((check.tier, check.events, check.reporters) == ("watch", 2, 2) for check in checks)
    assert all(check.reasons and check.guidance for check in checks)


def test_sealed_entries_of_a_later_format_are_named(newer: NewerLedger) -> None:
    newer.sealed_form = 3
    publish(newer)
    with newer.connect() as ledger:
        assert ledger.check({"phone": CLEAN}).tier == "clear"
        with pytest.raises(LedgerError) as caught:
            ledger.check({"phone": PHONE})
    assert caught.value.code in ("newer_format", "invalid_bucket")


# --- reports and appeals ----------------------------------------------------------------------------------------------


def test_a_platform_under_a_law_of_a_later_version_reports(newer: NewerLedger) -> None:
    with newer.connect() as ledger:
        assert ledger.suite.profile == "BR"
        assert ledger.reports.create(ledger.tag(phone=PHONE), **report_arguments()).state == "accepted"


def test_reports_receipts_and_appeals_of_a_later_version_are_read(newer: NewerLedger) -> None:
    with newer.connect(suite=newer.suite_file(profile="CN")) as ledger:
        sent = ledger.reports.create(ledger.tag(phone=PHONE), **report_arguments())
        accepted = sent.report
        assert accepted is not None, sent.error
        assert (accepted.id, accepted.status) == (REPORT, "embargoed")
        receipt = ledger.reports.receipt(accepted)
        offline = check_offline(receipt.text, ORIGIN, ledger.suite.log_public, ledger.public_keys)
        assert offline.entry is not None
        assert offline.entry["x_added"] == FURTHER["x_added"]
        view = ledger.reports.get(REPORT)
        assert ledger.reports.list().reports == (view,)
        assert (view.status, view.conduct, view.outcome) == ("embargoed", NEW_CONDUCT, "refund_split")
        assert view.withdrawal_reason == "court_order"
        assert view.appeal is not None
        assert (view.appeal.state, view.appeal.outcome, view.appeal.conduct) == ("mediation", "settled", NEW_CONDUCT)
        case = ledger.appeals.get(CASE)
        assert (case.state, case.party, case.grounds, case.profile) == ("mediation", "mediator", "identity_theft", "BR")
        assert case.decision is not None
        assert (case.decision.outcome, case.timeline[0].action) == ("settled", "mediate")
        assert ledger.appeals.list().appeals[0].state == "mediation"


# --- webhooks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", ["case.mediated", "report.voided"])
def test_a_webhook_of_a_later_version_is_read(newer: NewerLedger, type_: str) -> None:
    data = {"report": REPORT, "reason": "court_order"}
    document = {"type": type_, "timestamp": format_time(newer.now), "data": data, "service": "s", "environment": "test"}
    body = canonical_json(further(document))
    secret = "whsec_" + "A" * 43 + "="
    message, sent_at = "wm_" + secrets.token_hex(6), int(newer.now.timestamp())
    headers = {
        ID_HEADER: message,
        TIMESTAMP_HEADER: str(sent_at),
        SIGNATURE_HEADER: signature_header([parse_secret(secret)], message, sent_at, body),
    }
    event = verify_webhook(secret, headers, body, newer.now)
    assert (event.type, event.data["report"], event.data["x_added"]) == (type_, REPORT, FURTHER["x_added"])
