"""A holder's commands killed at every durable step: the same command again goes on, with the same bytes.

For each step k the folder and the exchanged files are put back to what they were, the command is killed before its
k-th durable operation, and then runs again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from ledger.errors import ConfigurationError
from ledger.holder import backup, files
from ledger.holder.ceremony import read_state
from ledger.holder.folder import read_folder
from ledger.holder.shares import active_shares
from tests.counts import trials
from tests.forked import ForkedProcess
from tests.holder.ceremony_kit import Exchange, init_words, run, shown
from tests.support import ROOT

THREE = ("north", "ops", "south")
VICTIM = "ops"
KILLED = -signal.SIGKILL

Words = Sequence[object]


class Killer:
    """A process whose children run commands and die at a given step."""

    def __init__(self) -> None:
        self._process = ForkedProcess(
            "tests.holder.kill_runner", [], environment=os.environ, folder=ROOT, talk=True, stderr=2
        )

    def run(self, words: Words, count: int) -> int:
        """Run a command that dies before its durable operation number `count`, and return its exit status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([count, *map(str, words)]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.close()
        self._process.wait(20)


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    process = Killer()
    yield process
    process.close()


def survive(killer: Killer, exchange: Exchange, words: Words, result: Path) -> int:
    """Kill a command of the victim at its durable steps (in the short run at every ninth one), and run it again each
    time. Return how many steps it has.

    After a kill nothing is half. A file that was written for others, and a share or a message that was kept, have the
    same bytes after the second run.
    """
    kept = exchange.root.parent / "before"
    shutil.copytree(exchange.root, kept)
    count = 1
    while killer.run(words, count) == KILLED:
        nothing_half(exchange)
        before = durable(exchange, result)
        run(*words)
        after = durable(exchange, result)
        assert [name for name, content in before.items() if after.get(name, content) != content] == [], count
        assert str(result) in after
        assert before.keys() - after.keys() <= {name for name in before if "ceremony" in name}, count
        hidden = [path.name for path in exchange.folder(VICTIM).iterdir() if path.name.startswith(".")]
        assert hidden == []
        shutil.rmtree(exchange.root)
        shutil.copytree(kept, exchange.root)
        count += trials(9, 1)
        assert count < 200
    shutil.rmtree(kept)
    return count


def durable(exchange: Exchange, result: Path) -> dict[str, bytes]:
    """Return what must not change any more once it is on disk."""
    folder = exchange.folder(VICTIM)
    kept = {str(path): path.read_bytes() for path in [result, *folder.glob("share-*.json")] if path.exists()}
    if (folder / "holder.json").exists():
        kept["participant"] = (folder / "holder.json").read_bytes()
        state = read_state(read_folder(folder))
        if state is not None and state.step != "given up":
            for name, message in (("deal", state.deal), ("certificate", state.certificate)):
                if message:
                    kept[f"{name} of ceremony {state.ceremony.digest.hex()}"] = message
    return kept


def nothing_half(exchange: Exchange) -> None:
    """Check that every file that is there under its name is whole."""
    folder = exchange.folder(VICTIM)
    if (folder / "holder.json").exists():
        active_shares(folder)
        read_state(read_folder(folder))
    for path in exchange.files.glob("*.json"):
        assert path.read_bytes().endswith(b"\n"), path


def ceremony_survives(killer: Killer, exchange: Exchange, kind: str, names: Sequence[str], *options: object) -> None:
    """Do a ceremony in which the commands of one holder are killed at every step."""
    for name in THREE:
        for old in ("deal", "certificate"):
            (exchange.files / f"{name}.{old}.json").unlink(missing_ok=True)
    (exchange.files / f"{VICTIM}.card.json").unlink(missing_ok=True)
    others = [name for name in names if name != VICTIM]
    words = exchange.begin_words(kind, VICTIM, names, *options)
    confirmation = ("--fingerprint", shown(words))
    steps = survive(killer, exchange, [*words, *confirmation], exchange.files / f"{VICTIM}.deal.json")
    for name in others:
        run(*exchange.begin_words(kind, name, names, *options), *confirmation)
    run(*words, *confirmation)
    words = exchange.certify_words(VICTIM, names)
    confirmation = ("--fingerprint", shown(words))
    result = exchange.files / f"{VICTIM}.certificate.json"
    steps += survive(killer, exchange, [*words, *confirmation], result)
    for name in others:
        run(*exchange.certify_words(name, names), *confirmation)
    run(*words, *confirmation)
    words = exchange.finish_words(VICTIM, names)
    steps += survive(killer, exchange, words, exchange.files / f"{VICTIM}.card.json")
    for name in names:
        run(*exchange.finish_words(name, names))
    assert steps > 25


@pytest.fixture
def exchange(after: Callable[[str], Exchange]) -> Exchange:
    """A ledger whose key is shared 2 of 3."""
    return after("finish")


def test_init(killer: Killer, tmp_path: Path) -> None:
    exchange = Exchange.create(tmp_path / "new", ())
    words = init_words(exchange.files, exchange.folder(VICTIM), VICTIM)
    assert survive(killer, exchange, words, exchange.files / f"{VICTIM}.participant.json") > 10


def test_generate(killer: Killer, tmp_path: Path) -> None:
    exchange = Exchange.create(tmp_path / "new", THREE)
    ceremony_survives(killer, exchange, "deal", THREE, "--threshold", 2)
    exchange.cards(THREE)
    assert {exchange.secret(pair, 1, 1) for pair in (THREE[:2], THREE[1:])} == {exchange.secret(THREE, 1, 1)}


def test_refresh(killer: Killer, exchange: Exchange) -> None:
    secret = exchange.secret(THREE[:2], 1, 1)
    ceremony_survives(killer, exchange, "refresh", THREE)
    exchange.cards(THREE)
    assert exchange.secret(THREE[1:], 1, 2) == exchange.secret(THREE[:2], 1, 2) == secret


def test_reshare(killer: Killer, exchange: Exchange) -> None:
    secret = exchange.secret(THREE[:2], 1, 1)
    exchange.join("east")
    names = ("north", "east", VICTIM)
    card = exchange.files / "north.card.json"
    ceremony_survives(killer, exchange, "reshare", names, "--threshold", 2, "--card", card)
    exchange.cards(names)
    assert exchange.secret(names[:2], 1, 2) == exchange.secret(names[1:], 1, 2) == secret


def test_rotate(killer: Killer, exchange: Exchange) -> None:
    ceremony_survives(killer, exchange, "rotate", THREE)
    exchange.cards(THREE)
    assert exchange.secret(THREE[1:], 2, 1) == exchange.secret(THREE[:2], 2, 1) != exchange.secret(THREE, 1, 1)


def test_giving_up_a_finished_ceremony(killer: Killer, exchange: Exchange) -> None:
    words = ["abandon", "--yes", "--unlogged", "--folder", exchange.folder(VICTIM)]
    count = 1
    while killer.run(words, count) == KILLED:
        nothing_half(exchange)
        count += 1
    assert count > 5
    assert active_shares(exchange.folder(VICTIM)) == ()


def test_destroying_an_old_share(killer: Killer, exchange: Exchange) -> None:
    exchange.all_rounds("refresh", THREE)
    folder, count = exchange.folder(VICTIM), 1
    while killer.run(["destroy-old", folder], count) == KILLED:
        nothing_half(exchange)
        assert [share.generation for share in active_shares(folder)][-1] == 2
        count += 1
    assert count > 5
    names = {path.name for path in folder.iterdir()}
    assert names == {"holder.json", "ledger.json", "signing.key", "static.key", "share-1-2.json", "lock"}


def test_restore(killer: Killer, exchange: Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "MEMORY_KIB", 1024)
    folder, saved, passphrase = tmp_path / "restored", tmp_path / "saved", tmp_path / "passphrase"
    passphrase.write_text("a passphrase of this test")
    passphrase.chmod(0o600)
    run("backup", saved, "--passphrase-file", passphrase, "--folder", exchange.folder(VICTIM))
    words = ["restore", saved, "--passphrase-file", passphrase, "--folder", folder]
    count = 1
    while killer.run(words, count) == KILLED:
        if (folder / "holder.json").exists():
            assert len(active_shares(folder)) == 1
        run(*words)
        assert active_shares(folder)[0].secret == active_shares(exchange.folder(VICTIM))[0].secret
        shutil.rmtree(folder)
        count += trials(9, 1)
    assert count > 15


def test_a_temporary_name_of_a_finished_file_is_deleted_without_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "share.json"
    files.write_once(path, "content\n")
    os.link(path, tmp_path / ".share.json.0123456789abcdef")
    (tmp_path / ".other.json.0123456789abcdef").write_text("half of a sec")
    files.sweep(tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["share.json"]
    assert path.read_text() == "content\n"
    with pytest.raises(ConfigurationError):
        files.write_once(path, "other\n")
