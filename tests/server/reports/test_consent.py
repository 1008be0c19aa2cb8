"""Lookups before and after the moment at which a policy that asks for consent comes into effect."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ledger.errors import ConsentMissing, InvalidRequest
from ledger.rules.policy.shipped import shipped_version
from ledger.server.db.tables.lookups import LookupCount, LookupLog
from ledger.server.log.policy_publication import publish_policy
from tests.processes import until
from tests.server.conftest import LedgerFixture
from tests.server.log.test_first_policy_ledger import older
from tests.server.lookups.test_lookups import rows
from tests.support import lookup_request, submit_lookup

__all__ = ["older"]


@pytest.mark.one_engine
def test_consent_is_needed_from_the_moment_on(older: LedgerFixture) -> None:
    person, acme = older.person(), older.acme.member()
    older.report(older.bolt, person)
    asked = lookup_request(older.rt, person, consent_ref=None)
    moment = publish_policy(older.rt.engine, shipped_version(2)[0], older.clock()).in_effect_at
    older.rt.policies.refresh()
    submit_lookup(older.rt, acme, asked).result(60)

    older.clock.moment = moment
    for purpose in ("refund_review", "appeal"):
        without = asked._replace(purpose=purpose)
        with pytest.raises(ConsentMissing, match="CN profile a lookup needs consent_ref"):
            submit_lookup(older.rt, acme, without)
        with pytest.raises(ConsentMissing, match="CN profile a lookup needs consent_ref"):
            older.rt.lookups.from_memory(acme, without)
    submit_lookup(older.rt, older.bolt.member(), asked).result(60)  # bolt is under the EU profile
    submit_lookup(older.rt, acme, asked._replace(consent_ref="同意 2026")).result(60)
    stranger = replace(acme, profile="ZZ")  # of a later version, whose law the policy does not name
    submit_lookup(older.rt, stranger, asked._replace(purpose="appeal")).result(60)
    logged = [(row.platform, row.purpose, row.consent_ref) for row in rows(older, LookupLog)]
    assert sorted(logged, key=str) == [
        ("acme", "appeal", None),
        ("acme", "refund_review", "同意 2026"),
        ("acme", "refund_review", None),
        ("bolt", "refund_review", None),
    ]
    until(
        lambda: sum(row.clean + row.disclosed for row in rows(older, LookupCount)) == len(logged), "those are counted"
    )
    with pytest.raises(InvalidRequest, match="shows nothing"):
        submit_lookup(older.rt, older.bolt.member(), asked._replace(consent_ref="\u3164"))
