"""`key-holders`, `endorse-key` and `--cards`: what a platform sees of the holders of the key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from ledger.cli.exit_codes import ExitCode
from ledger.protocol.encoding import b64url
from ledger.protocol.fingerprints import fingerprint
from ledger.tlog.key_statement import make_card
from tests.cli.test_commands import machine, run
from tests.client.shared_ledger import PLATFORM_KEY, SharedLedger, shared_ledger
from tests.client.small_ledger import SmallLedger, small_ledger
from tests.client.test_epochs import WHO


def written(ledger: SmallLedger) -> list[object]:
    """The options of a platform whose files are in the ledger's folder."""
    folder = ledger.folder
    (folder / "acme.suite.json").write_text(json.dumps(ledger.suite_file()))
    key = folder / "acme.pem"
    key.touch(0o600)
    key.write_bytes(PLATFORM_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    order_key = folder / "acme.order.key"
    order_key.touch(0o600)
    order_key.write_text(b64url(bytes(32)))
    return ["--suite", folder / "acme.suite.json", "--key", key, "--state-dir", folder / "state"]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedLedger]:
    with shared_ledger(tmp_path) as ledger:
        (tmp_path / "cards").mkdir()
        for holder in ledger.group:
            card = make_card(ledger.statements[1, 1], holder.index, holder.url, holder.signing_key)
            (tmp_path / "cards" / f"{holder.id}.card.json").write_text(json.dumps(card))
        yield ledger


def test_the_holders_of_a_shared_key(shared: SharedLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    access = written(shared)
    missing = machine("key-holders", *access, code=ExitCode.USAGE)["error"]
    assert missing["code"] == "configuration_error"
    assert missing["details"]["missing"] == ["north", "south", "west"]
    cards = shared.folder / "cards"
    shown = machine("key-holders", *access, "--cards", cards)
    assert (shown["threshold"], shown["generation"], shown["single"]) == (2, 1, False)
    assert [holder["organisation"] for holder in shown["holders"]] == ["north Ltd", "south Ltd", "west Ltd"]
    text = run("key-holders", *access, "--cards", cards / "north.card.json", "--cards", cards / "west.card.json").output
    assert "Any 2 of 3 evaluate" in text
    assert shown["fingerprint"] == fingerprint(shared.statements[1, 1].canonical)
    assert shown["fingerprint"] in " ".join(text.split())
    monkeypatch.setenv("REFUND_LEDGER_CARDS", str(cards))
    tagged = machine("tag", *access, "--phone", WHO["phone"])
    assert [row["tag"] for row in tagged["tags"]] == [text for _, text in shared.buyer(WHO).tags()]


def test_a_further_key_is_presented(shared: SharedLedger) -> None:
    access = [*written(shared), "--cards", shared.folder / "cards"]
    new = Ed25519PrivateKey.generate().public_key()
    public = shared.folder / "acme-2.public.pem"
    public.write_bytes(new.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    shared.group[0].refusal = (403, "not_admitted", {})
    refused = machine("endorse-key", public, "--kid", "acme-2", *access, code=ExitCode.REFUSED)
    assert refused["holders"]["north"]["code"] == "not_admitted"
    assert (refused["holders"]["south"], refused["holders"]["west"]) == (None, None)
    shared.group[0].recover()
    assert "accepted" in run("endorse-key", public, "--kid", "acme-2", *access).output
    assert all(holder.admitted["acme-2"] == new.public_bytes_raw() for holder in shared.group)
    error = machine("endorse-key", shared.folder / "acme.pem", "--kid", "acme-2", *access, code=ExitCode.USAGE)["error"]
    assert error["code"] == "configuration_error"


def test_one_holder_is_said_to_have_the_whole_key(tmp_path: Path) -> None:
    with small_ledger(tmp_path) as ledger:
        access = written(ledger)
        assert machine("key-holders", *access)["single"]
        assert "One holder has the whole key" in run("key-holders", *access).output
