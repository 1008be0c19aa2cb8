"""Operator and holders with their commands alone: a ledger begun, its key reshared, and rotated."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ledger.protocol import sodium
from tests.cli.test_rotation import machine
from tests.cli.test_shared_keys import environment
from tests.holder.ceremony_kit import CARD, Exchange
from tests.support import ledger_settings, publish, sqlite_schema


def options(exchange: Exchange, kind: str, names: tuple[str, ...]) -> list[str]:
    return [word for path in exchange.of(kind, names) for word in (f"--{kind}", str(path))]


def test_from_the_first_key_to_the_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ledger.db").write_bytes(sqlite_schema())
    settings = ledger_settings(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    environment(monkeypatch, settings, tmp_path)
    prepared = machine("keys", "init", "--threshold", "--organisation", CARD.operator, "--url", CARD.url)
    exchange, first = Exchange(tmp_path / "holders"), ("north", "south", "ops")
    exchange.files.mkdir(parents=True)
    shutil.copy(prepared["ledger_card"], exchange.files)
    for name in (*first, "spare"):
        exchange.join(name)
    exchange.all_rounds("deal", first, "--threshold", 2)
    machine("keys", "init", *options(exchange, "card", first))
    key = exchange.secret(first, 1, 1)
    # South leaves, Spare joins; the operator holds one share of three like the others.
    second = ("north", "ops", "spare")
    exchange.all_rounds(
        "reshare", ("north", "ops", "south", "spare"), "--threshold", 2, "--leaving", "south", card_for=("spare",)
    )
    shutil.move(exchange.files / "south.card.json", exchange.files / "south.endorsement.json")
    words = [*options(exchange, "card", second), *options(exchange, "endorsement", ("south",))]
    logged = machine("keys", "publish", *words)
    assert (logged["generation"], logged["logged"]) == (2, True)
    assert {holder["id"] for holder in logged["holders"]} == set(second)
    assert exchange.secret(second, 1, 2) == key
    exchange.all_rounds("rotate", second)
    turned = machine("rotate", *options(exchange, "card", second), *options(exchange, "certificate", second))
    assert (turned["from"], turned["to"]) == (1, 2)
    new = exchange.secret(second, 2, 1).to_bytes(32, "little")
    shown = machine("keys", "show")
    assert shown["public_key"] == exchange.cards(second).json["public_key"]
    assert sodium.scalarmult_base(new) == exchange.cards(second).keys.public_key
    assert publish(settings).frozen is None
