"""Admission: the holder's own people admit, an admitted key endorses, and holder and log take away."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ledger.errors import AlreadyExists, InvalidPublicKey, InvalidRequest, NotFound
from ledger.holder import admission
from ledger.protocol.encoding import b64url
from tests.holder.kit import START, Caller, Consortium, HolderAnswer, HolderService, points


def answered(service: HolderService, caller: Caller) -> str:
    """`ok`, or the code of the refusal, of one evaluation."""
    service.rt.state.refresh()
    answer = service.evaluate(caller, points(1))
    return "ok" if answer.status == 200 else answer.code


def endorse(service: HolderService, by: Caller, new: Caller, **members: str) -> HolderAnswer:
    """Present a further key with an admitted one."""
    body = json.dumps({"kid": new.kid, "public_key": b64url(new.public_key), **members}).encode()
    return service.post("/v1/keys", by.token("north", body, service.clock()), body)


def test_a_platform_is_admitted_with_its_keys(service: HolderService, acme: Caller) -> None:
    second = acme.renewed("k2")
    assert answered(service, second) == "unknown_key"
    second.admitted(service.rt.engine)
    assert answered(service, acme) == answered(service, second) == "ok"
    values = {"platform": "acme", "control_group": "acme-group", "kid": "k1", "now": START}
    repeated = admission.admit_platform(service.rt.engine, public_key=acme.public_key, **values)  # type: ignore[arg-type]
    assert repeated == admission.Admission(new_platform=False, new_key=False)


def test_what_cannot_be_admitted(service: HolderService, acme: Caller) -> None:
    engine = service.rt.engine
    with pytest.raises(AlreadyExists, match="in the control group acme-group"):
        replace(acme, control_group="other-group").admitted(engine)
    with pytest.raises(AlreadyExists, match="another key of this id"):
        acme.renewed("k1").admitted(engine)
    with pytest.raises(AlreadyExists, match="admitted already"):
        Caller("bolt", "bolt-group", key=acme.key).admitted(engine)
    with pytest.raises(InvalidPublicKey):
        admission.admit_platform(
            engine, platform="bolt", control_group="bolt-group", kid="k1", public_key=bytes(32), now=START
        )
    for names in (("Bolt", "bolt-group", "k1"), ("bolt", "x" * 33, "k1"), ("bolt", "bolt-group", "a b")):
        with pytest.raises(InvalidRequest):
            Caller(*names).admitted(engine)
    with pytest.raises(InvalidRequest):
        Caller("bolt", "bolt-group").admitted(engine, daily_elements=-1)
    service.rt.state.refresh()
    assert set(service.rt.state.current().members) == {"acme"}


def test_an_admitted_key_endorses_a_further_one(service: HolderService, acme: Caller) -> None:
    second, third = acme.renewed("k2"), acme.renewed("k3")
    answer = endorse(service, acme, second)
    assert (answer.status, answer.json) == (200, {"platform": "acme", "kid": "k2", "endorsed_by": "k1"})
    assert endorse(service, acme, second).status == 200, "repeating it changes nothing"
    assert answered(service, second) == "ok"
    assert endorse(service, second, third).json["endorsed_by"] == "k2"
    assert service.rt.state.current().keys["acme", "k3"].endorsed_by == "k2"


def test_what_is_not_endorsed(service: HolderService, acme: Caller) -> None:
    bolt = Caller("bolt", "bolt-group").admitted(service.rt.engine)
    service.rt.state.refresh()
    new = acme.renewed("k2")
    assert endorse(service, acme.renewed("k9"), new).code == "unknown_key"
    assert endorse(service, Caller("ghost", "ghost-group"), new).code == "not_admitted"
    assert endorse(service, acme, acme.renewed("k1")).code == "already_exists"
    assert endorse(service, acme, bolt.renewed("k2"), public_key=b64url(bolt.public_key)).code == "already_exists"
    assert endorse(service, acme, new, public_key=b64url(bytes(32))).code == "invalid_public_key"
    assert endorse(service, acme, new, public_key="x").code == "invalid_encoding"
    assert endorse(service, acme, new, kid="").code == endorse(service, acme, new, more="x").code == "invalid_request"
    body = json.dumps({"kid": "k2", "public_key": b64url(new.public_key)}).encode()
    token = acme.token("north", body, service.clock())
    assert service.post("/v1/keys", token, body).status == 200
    assert service.post("/v1/keys", token, body).code == "token_used"
    assert set(service.rt.state.current().keys) == {("acme", "k1"), ("acme", "k2"), ("bolt", "k1")}


def test_a_key_that_another_platform_presented_is_admitted_for_its_owner(service: HolderService, acme: Caller) -> None:
    """Public keys are in the log, and an endorsement does not prove that the platform has the secret key."""
    bolt = Caller("bolt", "bolt-group")
    assert endorse(service, acme, replace(bolt, kid="k2")).status == 200
    bolt.admitted(service.rt.engine)
    service.rt.state.refresh()
    assert set(service.rt.state.current().keys) == {("acme", "k1"), ("bolt", "k1")}
    assert answered(service, bolt) == answered(service, acme) == "ok"


def test_a_platform_has_a_limited_number_of_keys(service: HolderService, acme: Caller) -> None:
    for number in range(2, admission.MAX_KEYS + 1):
        acme.renewed(f"k{number}").admitted(service.rt.engine)
    answer = endorse(service, acme, acme.renewed("more"))
    assert (answer.status, answer.code) == (429, "quota_exceeded")


def test_the_holder_suspends_and_revokes(service: HolderService, acme: Caller) -> None:
    engine, second = service.rt.engine, acme.renewed("k2").admitted(service.rt.engine)
    admission.set_suspension(engine, platform="acme", suspended=True, now=START)
    assert answered(service, acme) == "platform_suspended"
    assert endorse(service, acme, acme.renewed("k3")).code == "platform_suspended"
    admission.set_suspension(engine, platform="acme", suspended=False, now=START)
    assert answered(service, acme) == "ok"
    admission.revoke_key(engine, platform="acme", kid="k1", now=START)
    assert answered(service, acme) == "unknown_key"
    assert answered(service, second) == "ok"
    with pytest.raises(AlreadyExists, match="revoked"):
        acme.admitted(engine)
    with pytest.raises(NotFound):
        admission.set_suspension(engine, platform="bolt", suspended=True, now=START)
    with pytest.raises(NotFound):
        admission.revoke_key(engine, platform="acme", kid="k9", now=START)


def test_the_log_suspends_and_revokes_and_never_admits(
    service: HolderService, acme: Caller, consortium: Consortium
) -> None:
    second, third = acme.renewed("k2").admitted(service.rt.engine), acme.renewed("k3")
    consortium.log.status("acme", suspended=True)
    consortium.log.status("ghost")
    service.rt.follower.follow()
    assert answered(service, acme) == "platform_suspended"
    assert answered(service, Caller("ghost", "ghost-group")) == "not_admitted"
    admission.set_suspension(service.rt.engine, platform="acme", suspended=False, now=START)
    assert answered(service, acme) == "platform_suspended", "the holder cannot lift what the log says"
    consortium.log.status("acme", revoked=[("k1", acme.public_key), ("k3", bytes(range(32)))])
    consortium.log.status("acme")
    service.rt.follower.follow()
    assert answered(service, acme) == "unknown_key", "a revoked key stays revoked, whatever the log says later"
    assert answered(service, second) == "ok"
    third.admitted(service.rt.engine)
    assert answered(service, third) == "unknown_key", "a key under a revoked id"
    assert endorse(service, second, replace(acme, kid="k4")).code == "already_exists"


def test_a_key_that_the_log_revoked_before_it_was_admitted_is_refused(
    service: HolderService, consortium: Consortium
) -> None:
    bolt = Caller("bolt", "bolt-group")
    consortium.log.status("bolt", revoked=[("old", bolt.public_key)])
    service.rt.follower.follow()
    bolt.admitted(service.rt.engine)
    assert answered(service, bolt) == "unknown_key"
