"""Backups of a holder's folder: what they hold, who opens them, and where they are restored."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ledger.cli import app, output
from ledger.holder import backup
from ledger.holder.shares import active_shares
from tests.counts import trials
from tests.holder.ceremony_kit import Exchange, altered, refusal, run

THREE = ("north", "ops", "south")
PASSPHRASE = "correct horse battery staple"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less memory than a real backup takes; in the long run the real amount."""
    monkeypatch.setattr(backup, "MEMORY_KIB", trials(8 * 1024, backup.MEMORY_KIB))


@pytest.fixture
def exchange(after: Callable[[str], Exchange]) -> Exchange:
    """All have certified; with a passphrase."""
    exchange = after("certify")
    (exchange.root / "passphrase").write_text(PASSPHRASE + "\n")
    (exchange.root / "passphrase").chmod(0o600)
    return exchange


def finish_words(exchange: Exchange) -> list[object]:
    options = ("--backup", exchange.root / "north.backup", "--passphrase-file", exchange.root / "passphrase")
    return exchange.finish_words("north", THREE, *options)


def restore_words(exchange: Exchange, folder: Path) -> list[object]:
    passphrase = exchange.root / "passphrase"
    return ["restore", exchange.root / "north.backup", "--folder", folder, "--passphrase-file", passphrase]


def test_a_backup_is_restored_into_an_empty_folder(exchange: Exchange) -> None:
    assert run(*finish_words(exchange))["backup"] == str(exchange.root / "north.backup")
    for name in THREE[1:]:
        run(*exchange.finish_words(name, THREE))
    before = {path.name: path.read_bytes() for path in exchange.folder("north").iterdir()}
    shutil.rmtree(exchange.folder("north"))
    answer = run(*restore_words(exchange, exchange.folder("north")))
    assert answer["shares"] == [{"epoch": 1, "generation": 1}]
    folder = exchange.folder("north")
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert after == {name: text for name, text in before.items() if name != "ceremony.json"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert run(*restore_words(exchange, folder))["holder"] == "north", "a restore may be repeated"
    secret = exchange.secret(THREE[:2], 1, 1)
    exchange.all_rounds("refresh", THREE)
    assert {exchange.secret(pair, 1, 2) for pair in itertools.combinations(THREE, 2)} == {secret}


def test_a_backup_reveals_no_secret(exchange: Exchange) -> None:
    run(*finish_words(exchange))
    path = exchange.root / "north.backup"
    members = json.loads(path.read_text())
    assert members.keys() == {"format", "kind", "holder", "kdf", "cipher", "nonce", "ciphertext"}
    assert members["kdf"]["name"] == "argon2id"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for name in ("signing.key", "static.key"):
        assert (exchange.folder("north") / name).read_text().strip() not in path.read_text()
    (share,) = active_shares(exchange.folder("north"))
    assert share.secret not in path.read_bytes()


def test_a_repeated_finish_keeps_its_backup(exchange: Exchange) -> None:
    run(*finish_words(exchange))
    before = (exchange.root / "north.backup").read_bytes()
    run(*finish_words(exchange))
    assert (exchange.root / "north.backup").read_bytes() == before
    (exchange.root / "passphrase").write_text("another passphrase")
    assert "exists already with other content" in refusal(*finish_words(exchange), code=2)["message"]
    assert (exchange.root / "north.backup").read_bytes() == before


def test_a_short_passphrase_stops_before_the_share_is_written(exchange: Exchange) -> None:
    (exchange.root / "passphrase").write_text("elevenchars\n")
    assert "at least 12 characters" in refusal(*finish_words(exchange), code=2)["message"]
    assert not (exchange.folder("north") / "share-1-1.json").exists()
    (exchange.root / "passphrase").write_bytes(b"\xff" * 20)
    assert "not UTF-8" in refusal(*finish_words(exchange), code=2)["message"]


def test_a_passphrase_that_others_can_read_is_refused(exchange: Exchange) -> None:
    (exchange.root / "passphrase").chmod(0o644)
    assert "must not be readable by others" in refusal(*finish_words(exchange), code=2)["message"]
    assert not (exchange.root / "north.backup").exists()
    (exchange.root / "passphrase").chmod(0o600)
    (exchange.root / "passphrase").write_text("x" * 65_537)
    assert "longer than" in refusal(*finish_words(exchange), code=2)["message"]
    (exchange.root / "passphrase").unlink()
    assert "is missing" in refusal(*finish_words(exchange), code=2)["message"]


def test_a_passphrase_may_come_from_a_pipe(exchange: Exchange) -> None:
    reading, writing = os.pipe()
    os.write(writing, PASSPHRASE.encode())
    os.close(writing)
    backup = exchange.root / "north.backup"
    run(*exchange.finish_words("north", THREE, "--backup", backup, "--passphrase-file", f"/dev/fd/{reading}"))
    os.close(reading)
    run(*restore_words(exchange, exchange.root / "again"))


def test_without_a_backup_the_command_says_so(exchange: Exchange) -> None:
    output.reset()
    done = CliRunner().invoke(app, ["holder", *map(str, exchange.finish_words("north", THREE))])
    assert done.exit_code == 0
    assert "There is NO backup of this share" in done.stdout
    assert "Fingerprint of the key statement: " in done.stdout
    words = ["backup", exchange.root / "later", "--folder", exchange.folder("north")]
    assert "--passphrase-file" in refusal(*words, code=2)["message"]
    output.reset()
    done = CliRunner().invoke(app, ["holder", *map(str, words)], input=f"{PASSPHRASE}\n{PASSPHRASE}\n")
    assert done.exit_code == 0
    assert PASSPHRASE not in done.stdout
    (exchange.root / "later").rename(exchange.root / "north.backup")
    run(*restore_words(exchange, exchange.root / "again"))


def flip(text: str) -> str:
    return ("A" if text[10] != "A" else "B").join([text[:10], text[11:]])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda members: members.update(ciphertext=flip(members["ciphertext"])), 1),
        (lambda members: members.update(nonce=flip(members["nonce"])), 1),
        (lambda members: members.update(holder="south"), 1),
        (lambda members: members["kdf"].update(passes=members["kdf"]["passes"] + 1), 1),
        (lambda members: members["kdf"].update(salt=flip(members["kdf"]["salt"])), 1),
        (lambda members: members["kdf"].update(memory_kib=2**40), 2),
        (lambda members: members["kdf"].update(memory_kib=1), 2),
        (lambda members: members["kdf"].update(name="pbkdf2"), 2),
        (lambda members: members.update(format=2), 2),
        (lambda members: members.pop("ciphertext"), 2),
    ],
)
def test_an_altered_backup_does_not_open(
    exchange: Exchange, change: Callable[[dict[str, Any]], None], code: int
) -> None:
    run(*finish_words(exchange))
    altered(exchange.root / "north.backup", change)
    error = refusal(*restore_words(exchange, exchange.root / "again"), code=code)
    assert error["code"] == ("invalid_ciphertext" if code == 1 else "configuration_error")
    assert not (exchange.root / "again" / "holder.json").exists()


def test_another_passphrase_does_not_open(exchange: Exchange) -> None:
    run(*finish_words(exchange))
    (exchange.root / "passphrase").write_text(PASSPHRASE + "!")
    assert "another passphrase" in refusal(*restore_words(exchange, exchange.root / "again"))["message"]


def test_a_backup_is_not_restored_over_other_files(exchange: Exchange) -> None:
    run(*finish_words(exchange))
    for name in ("notes", "static.key"):
        folder = exchange.root / f"with-{name}"
        folder.mkdir(mode=0o700)
        (folder / name).write_text("x")
        (folder / name).chmod(0o600)
        refusal(*restore_words(exchange, folder), code=2)
        assert (folder / name).read_text() == "x"
        assert not (folder / "holder.json").exists()
