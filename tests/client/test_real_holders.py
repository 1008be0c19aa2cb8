"""The SDK with the services of real key holders, over HTTP."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client import Buyer, RefundLedger, SubjectIds, buyers
from ledger.client.identity.suite import parse_suite
from ledger.errors import NotAdmitted, QuotaExceeded, UnknownKey
from ledger.protocol import sodium, voprf
from ledger.protocol.identifiers import canonical, parse_kind
from ledger.protocol.tags import tag
from ledger.tlog.key_statement import make_card, parse_card
from tests.client.test_epochs import WHO
from tests.client.test_holders import OTHER
from tests.faulty import answering
from tests.holder.kit import SERVICE, Caller, Consortium, HolderService, TurnedClock, as_scalar, holder_settings
from tests.processes import until

Open = Callable[..., RefundLedger]


@contextmanager
def listening(service: HolderService) -> Iterator[str]:
    """The URL at which a holder's service answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(service.app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        until(lambda: server.started, "the service does not start")
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(5)


@pytest.fixture
def group(tmp_path: Path) -> Iterator[tuple[Consortium, Caller, Open]]:
    """Three holders that admitted acme, and `open`, which returns an SDK of acme."""
    consortium, clock, acme = Consortium(tmp_path / "holders"), TurnedClock(), Caller("acme", "east", "acme-1")
    statement = consortium.generate().statement
    cards = []
    with ExitStack() as stack:
        for holder in statement.holders:
            folder = consortium.folders[holder.key.holder]
            settings = holder_settings(folder.path, daily_quota_elements=10, burst_elements=100)
            service = HolderService(settings, consortium, clock)
            stack.callback(service.close)
            acme.admitted(service.rt.engine)
            service.rt.state.refresh()
            url = stack.enter_context(listening(service))
            card = make_card(statement, holder.key.index, url, folder.signing_key())
            cards.append(parse_card(json.dumps(card).encode()))
        members = statement.json
        epoch = {name: members[name] for name in ("epoch", "generation", "threshold", "public_key", "holders")}
        suite: dict[str, Any] = {
            "service": SERVICE,
            "environment": "test",
            "suite": voprf.SUITE,
            "epochs": [{**epoch, "state": "current", "entry_index": 0}],
            "log": members["log"],
            "policy": 1,
        }
        ledger_url = stack.enter_context(answering(lambda *_: (200, {}, json.dumps(suite).encode())))
        who = {"url": ledger_url, "platform": "acme", "control_group": "east", "profile": "EU"}

        def open_ledger(key: Ed25519PrivateKey = acme.key, kid: str = "acme-1") -> RefundLedger:
            pinned = parse_suite({**who, **suite, "kid": kid})
            return stack.enter_context(
                RefundLedger(
                    pinned,
                    key,
                    state_dir=tmp_path / "state",
                    order_key=b"o" * 32,
                    cards=cards,
                    now=clock,
                    subject_budget_seconds=20,
                )
            )

        yield consortium, acme, open_ledger


def as_whole(consortium: Consortium, who: dict[str, str]) -> Buyer:
    """The buyer, computed with the whole key."""
    secret = as_scalar(consortium.sharings[0].secret)
    subjects = []
    for kind, raw in who.items():
        element = sodium.scalarmult(secret, voprf.hash_to_group(canonical(kind, raw)))
        subjects.append(SubjectIds(parse_kind(kind), tag(kind, element), element))
    return Buyer(1, tuple(subjects))


def test_tags_budgets_and_a_further_key(group: tuple[Consortium, Caller, Open]) -> None:
    consortium, _, open_ledger = group
    acme = open_ledger()
    assert acme.tag(**WHO) == as_whole(consortium, WHO)
    assert buyers(acme.tag_many([OTHER, WHO])) == [as_whole(consortium, OTHER), as_whole(consortium, WHO)]
    assert acme.holder_failures == {}
    new = Ed25519PrivateKey.generate()
    later = open_ledger(new, "acme-2")
    with pytest.raises((UnknownKey, NotAdmitted)):
        later.tag(**WHO)
    assert set(acme.endorse_key("acme-2", new.public_key()).values()) == {None}
    assert later.tag(**WHO) == as_whole(consortium, WHO)
    with pytest.raises(QuotaExceeded) as caught:
        acme.tag_many([{"device": f"device-{n:012d}"} for n in range(20)])
    assert set(caught.value.details["holders"].values()) == {"quota_exceeded"}  # type: ignore[attr-defined]
