"""The SDK's key epochs against the suite and the log of a real ledger whose key is shared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ledger.client.holders.cards import pin_cards
from ledger.client.identity.epochs import Epochs
from ledger.client.identity.suite import parse_service, parse_suite
from ledger.client.state import SeenCheckpoint
from ledger.server.platforms.suite import suite
from ledger.server.rotation import run as rotation
from ledger.server.rotation.announce import RotationFiles
from ledger.server.rotation.sharings import publish_sharing
from ledger.tlog.key_statement import parse_card
from tests.rotations import log_of
from tests.sharing import opened_shared, shared_ledger
from tests.support import publish


def test_the_log_and_suite_of_a_real_ledger_are_followed(tmp_path: Path) -> None:
    """Genesis, refresh, resharing and rotation as the server writes them, with real ceremonies."""
    with opened_shared(*shared_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)) as real:
        settings, holders = real.rt.settings, real.holders
        holders.add("east", "East Ltd")

        def served() -> dict[str, Any]:
            publish(settings)
            real.rt.members.refresh()
            return suite(settings, real.rt.keys, real.rt.policies.timeline, real.clock())

        names = {"url": "https://ledger.test", "platform": "acme", "control_group": "g", "profile": "EU", "kid": "k"}
        pinned = parse_suite({**names, **served()})
        cards = [parse_card(json.dumps(card).encode()) for card in real.first.cards.values()]
        statement = pin_cards(pinned, cards).statement
        seen = SeenCheckpoint(tmp_path / "seen", pinned.pinned.log_origin, pinned.log_public)
        epochs = Epochs(pinned, tmp_path / "epochs.json", seen, statement)
        for sharing in (holders.refresh(), holders.reshare(3, ["south", "west", "east"])):
            publish_sharing(settings, real.rt.engine, sharing.sharing, real.clock())
            epochs.take(parse_service(served()))
            epochs.hold(1, log_of(real.rt), 1)
            assert epochs.keys(1) == sharing.statement.keys
        sharing = holders.rotate()
        files = RotationFiles(sharing.sharing, tuple(sharing.certificates.values()))
        rotation.rotate(settings, real.rt.engine, real.clock, files=files)
        epochs.take(parse_service(served()))
        epochs.hold(2, log_of(real.rt), 1)
        assert epochs.current == 2
        assert epochs.keys(2) == sharing.statement.keys
        again = Epochs(pinned, tmp_path / "epochs.json", seen, statement)
        assert (again.current, again.sharings(2), len(again.sharings(1))) == (2, epochs.sharings(2), 3)
