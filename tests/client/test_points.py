"""The SDK takes elements and keys in their one encoding only: from the service, the suite file and its caller."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

import pytest

from ledger.client import Buyer, SubjectIds, buyers
from ledger.client.identity.suite import parse_service, parse_suite
from ledger.client.subjects import Blinder, normalise
from ledger.errors import ConfigurationError, InvalidLeaf, InvalidPoint, InvalidProof
from ledger.protocol import voprf
from ledger.protocol.encoding import b64url, unb64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import tag
from ledger.protocol.threshold import VerifiedShare
from ledger.tlog.checkpoint import verifier_key
from ledger.tlog.entries import GovernanceType
from tests import edwards
from tests.client.small_ledger import SmallLedger
from tests.client.test_epochs import WHO
from tests.client.test_subjects import PHONE, Holders
from tests.client.test_suite import log_key, suite_json
from tests.spellings import IDENTITIES, SMALL, element, other_spellings

SOME = [*other_spellings(element(1)), *other_spellings(SMALL[0]), *IDENTITIES]


def test_shares_in_another_spelling_are_false_and_not_remembered() -> None:
    """The very element, with a proof that the holder made for this spelling."""
    holders = Holders()
    blinder = Blinder(1)
    person = normalise({**PHONE, "email": "li@example.com"}, None)
    for choice in range(len(other_spellings(element(1)))):

        def forge(blinded: Sequence[bytes], choice: int = choice) -> Callable[[], list[VerifiedShare]]:
            answer = holders.answer(blinded)
            share = answer["shares"][0]
            evaluated = [unb64url(text, 32) for text in share["evaluated"]]
            evaluated[1] = other_spellings(evaluated[1])[choice]
            share["evaluated"] = [b64url(element) for element in evaluated]
            share["proof"] = b64url(
                voprf.generate_proof(holders.secret, blinded, evaluated, secrets.token_bytes(31) + b"\1")
            )
            return holders.verified(blinded, answer)

        with pytest.raises(InvalidProof):
            blinder.buyers([person], forge)
    for identity in IDENTITIES:

        def cancel(blinded: Sequence[bytes], identity: bytes = identity) -> Callable[[], list[VerifiedShare]]:
            answer = holders.answer(blinded)
            answer["shares"][0]["evaluated"] = [b64url(identity)] * len(blinded)
            return holders.verified(blinded, answer)

        with pytest.raises(InvalidProof):
            blinder.buyers([person], cancel)
    assert blinder.remembered(person) is None
    assert len(blinder.buyers([person], holders.evaluate)[0].subjects) == 2


@pytest.mark.parametrize("spelled", SOME, ids=bytes.hex)
def test_a_holders_key_in_another_spelling_is_refused(spelled: bytes) -> None:
    value = suite_json()
    value["epochs"][1]["holders"][1]["public_key"] = b64url(spelled)
    with pytest.raises(ConfigurationError):
        parse_suite(value)
    with pytest.raises(InvalidPoint):
        parse_service(value)


@pytest.mark.parametrize("key", edwards.unfit_keys(), ids=bytes.hex)
def test_a_suite_names_no_key_that_others_can_sign_for(key: bytes) -> None:
    good = suite_json()
    parse_suite(good)
    with pytest.raises(ConfigurationError):
        parse_suite({**good, "keys": [{"kid": "acme-1", "public_key": b64url(key)}]})
    forged = {"origin": "l.test/log", "key": verifier_key("l.test/log", key)}
    assert forged["key"].split("+")[0] == log_key().split("+")[0]
    with pytest.raises(ConfigurationError):
        parse_suite({**good, "log": forged})


def test_an_announced_key_in_another_spelling_is_not_followed(ledger: SmallLedger) -> None:
    suite = ledger.suite_file()
    ledger.announce(2)
    canonical = unb64url(ledger.holders(2)[0]["public_key"], 32)
    with ledger.connect(suite=suite) as acme:
        for spelled in other_spellings(canonical):
            holders = [{**ledger.holders(2)[0], "public_key": b64url(spelled)}]
            body = ledger.rotation_body(1) | {"next": {"epoch": 2, "holders": holders}}
            ledger.announced[2] = ledger.append(GovernanceType.KEY_ROTATION, body)
            with pytest.raises(InvalidLeaf):
                acme.tag_many([WHO], epoch="next")
        assert not acme._session.epochs.holds(2)
        ledger.announced[2] = 1
        assert buyers(acme.tag_many([WHO], epoch="next"))[0].epoch == 2


@pytest.mark.parametrize("spelled", SOME, ids=bytes.hex)
def test_a_stored_element_in_another_spelling_makes_no_buyer(spelled: bytes) -> None:
    with pytest.raises(InvalidPoint):
        Buyer(1, (SubjectIds(Kind.PHONE, tag(Kind.PHONE, spelled), spelled),))
