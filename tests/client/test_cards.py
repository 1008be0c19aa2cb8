"""Holder cards: what they pin, and that neither the operator nor one holder can name other holders."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client import RefundLedger
from ledger.client.holders.cards import PinnedCards, pin_cards, read_cards
from ledger.client.identity.environment import read_credentials
from ledger.client.identity.suite import parse_suite
from ledger.errors import ConfigurationError, HolderMismatch, LedgerError
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.encoding import b64url
from ledger.tlog.checkpoint import verifier_key
from ledger.tlog.key_statement import Card, make_card
from tests.client.shared_ledger import SharedLedger, SmallHolder, fresh_scalar
from tests.client.small_ledger import ORIGIN, SmallLedger
from tests.client.test_epochs import WHO


@pytest.fixture
def group(tmp_path: Path) -> SharedLedger:
    """A SharedLedger without services: nothing is sent here. The third holder is the operator."""
    holders = [SmallHolder(1, "north"), SmallHolder(2, "south"), SmallHolder(3, "west", operator=True)]
    for holder in holders:
        holder.url = f"https://{holder.id}.test"
    ledger = SharedLedger(tmp_path, group=holders, url="https://ledger.test")
    return ledger


def pin(group: SharedLedger, cards: list[Card], suite: dict[str, Any] | None = None) -> PinnedCards:
    return pin_cards(parse_suite(suite or group.suite_file()), cards)


def other(group: SharedLedger) -> SharedLedger:
    """Another ledger of the same holders, service and log: what an operator could make up."""
    holders = [replace(holder, shares={}) for holder in group.group]
    return SharedLedger(group.folder, group=holders, url=group.url, log_key=group.log_key)


def test_cards_of_the_threshold_pin_the_keys_and_addresses(group: SharedLedger) -> None:
    north, south, west = group.cards()
    for cards in ([north, south], [north, south, west], [west, south, north], [north, north, south]):
        pinned = pin(group, cards)
        assert pinned.statement == group.statements[1, 1]
        assert pinned.urls["north"] == "https://north.test"


def test_missing_cards_are_named_with_whom_to_ask(group: SharedLedger) -> None:
    north, _, west = group.cards()
    for cards in ([], [north], [north, west], [north, north]):
        with pytest.raises(ConfigurationError) as caught:
            pin(group, cards)
        text = str(caught.value)
        assert "south (south Ltd)" in text
        assert ("north (north Ltd)" in text) is (not cards)
        assert "west" not in text, "the operator's card counts for nothing"
        assert "--cards" in text
        assert "REFUND_LEDGER_CARDS" in text
    with pytest.raises(ConfigurationError, match="operator"):
        RefundLedger(parse_suite(group.suite_file()), Ed25519PrivateKey.generate(), order_key=b"o" * 32)


def _another_key(group: SharedLedger) -> list[Card]:
    return [group.cards()[0], *other(group).cards()[1:2]]


def _another_sharing(group: SharedLedger) -> list[Card]:
    """The same key, generation and holders, with other shares."""
    cards = group.cards()
    group.share(1, 1, CeremonyKind.GENERATE, None)
    return [cards[0], group.cards()[1], cards[2]]


Change = Callable[[dict[str, Any]], object]


def _epoch(name: str, value: Any) -> Change:
    return lambda suite: suite["epochs"][0].__setitem__(name, value)


def _holder(place: int, name: str, value: Any) -> Change:
    return lambda suite: suite["epochs"][0]["holders"][place].__setitem__(name, value)


def _key_of_another_log() -> dict[str, str]:
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    return {"origin": ORIGIN, "key": verifier_key(ORIGIN, key)}


SUITES: dict[str, Change] = {
    "service": lambda suite: suite.update(service="other.test"),
    "environment": lambda suite: suite.update(environment="live"),
    "log": lambda suite: suite.update(log=_key_of_another_log()),
    "signing key": _holder(1, "signing_key", b64url(bytes(range(32)))),
    "names": _holder(1, "id", "someone"),
}


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_that_contradicts_the_cards(group: SharedLedger, name: str) -> None:
    suite = group.suite_file()
    SUITES[name](suite)
    with pytest.raises(HolderMismatch) as caught:
        pin(group, group.cards()[:2], suite)
    assert caught.value.details["holder"] == "north"


def test_a_suite_of_the_operators_own_holders(group: SharedLedger) -> None:
    with pytest.raises(HolderMismatch, match="north"):
        pin(group, group.cards()[:2], other(group).suite_file())
    suite = group.suite_file()
    single = {"epoch": 1, "state": "current", "entry_index": 0}
    suite["epochs"] = [single | {"holders": [{"id": "x", "public_key": suite["epochs"][0]["public_key"]}]}]
    with pytest.raises(HolderMismatch):
        pin(group, group.cards()[:2], suite)


def test_cards_that_contradict_each_other(group: SharedLedger) -> None:
    with pytest.raises(HolderMismatch):
        pin(group, _another_key(group))
    with pytest.raises(HolderMismatch) as caught:
        pin(group, _another_sharing(group))
    assert caught.value.details["holder"] == "south", "the holder that the others contradict is named"


def _stated(
    group: SharedLedger, members: list[SmallHolder], threshold: int, kind: CeremonyKind, **changes: Any
) -> list[Card]:
    """The cards of members who state a key of their own under a later epoch."""
    epoch = 2 if kind is CeremonyKind.ROTATE else 9
    group.oprf[epoch] = fresh_scalar()
    group.share(
        epoch, 1, kind, (1, 1) if kind is CeremonyKind.ROTATE else None, members, threshold, changes.get("proof")
    )
    return [group.card(holder, (epoch, 1)) for holder in members]


def test_one_holder_cannot_state_a_key_of_its_own(group: SharedLedger) -> None:
    """The operator is one of the holders, hands its card to platforms, and could name everybody with a key it knows."""
    suite, honest = group.suite_file(), group.cards()[:2]
    (alone,) = _stated(group, [replace(group.group[2], operator=False)], 1, CeremonyKind.GENERATE)
    for cards in ([alone], [*honest, alone]):
        with pytest.raises(HolderMismatch, match="west"):
            pin(group, cards, suite)


@pytest.mark.parametrize("kind", [CeremonyKind.GENERATE, CeremonyKind.ROTATE])
def test_fewer_holders_than_the_threshold_cannot_state_a_key_of_their_own(tmp_path: Path, kind: CeremonyKind) -> None:
    holders = [SmallHolder(place, name, url=f"https://{name}.test") for place, name in enumerate("abcde", 1)]
    group = SharedLedger(tmp_path, group=holders, threshold=3, url="https://ledger.test")
    suite, honest, first = group.suite_file(), group.cards()[:3], group.statements[1, 1]
    false = _stated(
        group, [holders[3], replace(holders[4], id="a", url="https://other.test")], 2, kind, proof=bytes(64)
    )
    pinned = pin(group, [*honest, *false], suite)
    assert pinned.statement == first
    assert pinned.urls["a"] == "https://a.test", "another signing key is not that holder"
    for cards in (false, [honest[0], *false]):
        with pytest.raises(ConfigurationError, match="cards of at least 3 holders"):
            pin(group, cards, suite)


def test_cards_and_suite_of_two_generations(group: SharedLedger) -> None:
    before, cards = group.suite_file(), group.cards()
    group.refresh()
    after, renewed = group.suite_file(), group.cards()
    assert pin(group, cards[:2], after).statement == group.statements[1, 1], "what the cards say is pinned"
    assert pin(group, renewed[:2], before).statement == group.statements[1, 2]
    mixed = [*cards, renewed[0], renewed[1]]
    assert pin(group, mixed, before).statement == group.statements[1, 2], "the newest that enough holders signed"
    with pytest.raises(ConfigurationError):
        pin(group, [cards[0], renewed[1]], before)
    group.oprf[1] = fresh_scalar()
    group.share(1, 3, CeremonyKind.GENERATE, None)
    with pytest.raises(HolderMismatch):
        pin(group, group.cards()[:2], before)
    with pytest.raises(HolderMismatch):
        pin(group, [*renewed[:2], group.cards()[2]], before)


def test_one_of_one_stands_alone_and_says_so(ledger: SmallLedger, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "refund_ledger"), ledger.connect() as acme:
        acme.connect()
        acme.tag(**WHO)
        described = acme.key_holders
        assert (described.single, described.threshold, described.holders[0].id) == (True, 1, "h")
        assert acme.holder_failures == {}
        said = [record for record in caplog.records if record.__dict__.get("event") == "key_holders"]
        assert [record.__dict__["fields"]["single"] for record in said] == [True]


def test_one_of_one_with_cards_of_a_shared_key(ledger: SmallLedger, group: SharedLedger) -> None:
    with pytest.raises(LedgerError):
        pin_cards(parse_suite(ledger.suite_file()), group.cards())


def test_the_key_holders_are_described(shared: SharedLedger) -> None:
    with shared.connect() as acme:
        described = acme.key_holders
        assert (described.epoch, described.generation, described.threshold) == (1, 1, 2)
        assert not described.single
        assert [(holder.id, holder.organisation, holder.operator) for holder in described.holders] == [
            ("north", "north Ltd", False),
            ("south", "south Ltd", False),
            ("west", "west Ltd", False),
        ]
        assert described.holders[0].url == shared.group[0].url


def test_the_operator_cannot_have_services_of_this_machine_asked(group: SharedLedger) -> None:
    north, south, west = group.cards()
    group.group[2].url = "http://127.0.0.1:1/admin"
    for cards, url in (([north, south], None), ([north, south, west], "https://west.test")):
        with group.connect(suite=group.suite_file(), cards=cards) as acme:
            assert acme.key_holders.holders[2].url == url


# --- files --------------------------------------------------------------------------------------------------------


def _write(group: SharedLedger, folder: Path) -> list[Path]:
    folder.mkdir()
    paths = []
    for holder in group.group:
        path = folder / f"{holder.id}.card.json"
        path.write_text(json.dumps(make_card(group.statements[1, 1], holder.index, holder.url, holder.signing_key)))
        paths.append(path)
    return paths


def test_cards_are_read_from_files_folders_and_the_environment(group: SharedLedger, tmp_path: Path) -> None:
    paths = _write(group, tmp_path / "cards")
    cards = tuple(sorted(group.cards(), key=lambda card: card.holder.key.holder))
    assert read_cards(None) == ()
    for source in (tmp_path / "cards", str(tmp_path / "cards"), [tmp_path / "cards"], paths, [*map(str, paths)], cards):
        assert read_cards(source) == cards
    assert read_cards(paths[0]) == cards[:1]
    suite, key = tmp_path / "suite.json", tmp_path / "acme.pem"
    environment = {"REFUND_LEDGER_SUITE": str(suite), "REFUND_LEDGER_KEY": str(key)}
    for text in (os.pathsep.join(map(str, paths)), str(tmp_path / "cards")):
        credentials = read_credentials({**environment, "REFUND_LEDGER_CARDS": text})
        assert read_cards(credentials.cards) == cards
        assert read_credentials(environment, cards=paths[:1]).cards == paths[:1], "an argument goes before"
    assert read_credentials({**environment, "REFUND_LEDGER_CARDS": ""}).cards is None


def test_files_that_are_no_card(group: SharedLedger, tmp_path: Path) -> None:
    path = _write(group, tmp_path / "cards")[0]
    good = path.read_text()
    for text in ("", "{", "[]", good[:-10], good.replace("north.test", "evil.test"), good + " " * 70_000):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=r"north\.card\.json"):
            read_cards(path)
    (tmp_path / "empty").mkdir()
    for missing in (tmp_path / "none.card.json", tmp_path / "empty"):
        with pytest.raises(ConfigurationError):
            read_cards(missing)
