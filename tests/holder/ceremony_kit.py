"""Ceremonies in the tests' own process: the real commands, with holders' folders and an exchange folder for files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from ledger.cli import app, output
from ledger.holder.shares import active_shares
from ledger.protocol.sodium import GROUP_ORDER
from ledger.protocol.voprf import derive_secret, public_key
from ledger.tlog.checkpoint import verifier_key
from ledger.tlog.key_statement import Card, KeyStatement, parse_card
from ledger.tlog.ledger_card import LedgerCard, ledger_card_text
from tests.commands import build_commands_once

build_commands_once()

LOG_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
RECEIVING_SECRET = derive_secret(bytes(32), b"a receiving key")
CARD = LedgerCard(
    service="ledger.example",
    environment="test",
    operator="Ledger Operations Ltd",
    log_key=verifier_key("ledger.example/log", LOG_KEY),
    url="https://ledger.example",
    receiving_key=public_key(RECEIVING_SECRET),
)
ORGANISATIONS = {
    "north": "North Bank",
    "south": "South University",
    "east": "East Foundation",
    "west": "West Mutual",
    "ops": "LEDGER operations  ltd",
    "spare": "Spare Society",
}


def run(*words: object, code: int = 0) -> dict[str, Any]:
    """Run a command with `--json`, and return its answer. Fails unless it exits with `code`."""
    output.reset()
    done = CliRunner().invoke(app, ["holder", *map(str, words), "--json"])
    assert done.exit_code == code, done.output
    return dict(json.loads(done.stdout))


def refusal(*words: object, code: int = 1) -> dict[str, Any]:
    """Run a command that is refused with this exit code, and return its error."""
    error: dict[str, Any] = run(*words, code=code)["error"]
    return error


def init_words(exchange: Path, folder: Path, name: str, organisation: str | None = None) -> list[object]:
    """Return the words of `holder init` for a holder."""
    return [
        "init", "--ledger", exchange / "ledger.json", "--id", name, "--organisation", organisation or
        ORGANISATIONS[name], "--url", f"https://{name}.example", "--folder", folder, "--out",
        exchange / f"{name}.participant.json",
    ]  # fmt: skip


@dataclass(frozen=True)
class Exchange:
    """The files that holders exchange, and the folders of the holders beside them."""

    root: Path

    @classmethod
    def create(cls, root: Path, names: Iterable[str]) -> Exchange:
        """Write ledger.json, and create the folder of each holder with `holder init`."""
        exchange = cls(root)
        exchange.files.mkdir(parents=True)
        (exchange.files / "ledger.json").write_text(ledger_card_text(CARD))
        for name in names:
            exchange.join(name)
        return exchange

    @property
    def files(self) -> Path:
        """Return the folder with the exchanged files."""
        return self.root / "exchange"

    def folder(self, name: str) -> Path:
        """Return a holder's folder."""
        return self.root / name

    def join(self, name: str) -> None:
        """Create a holder's folder."""
        run(*init_words(self.files, self.folder(name), name))

    def of(self, kind: str, names: Sequence[str]) -> list[Path]:
        """Return the files of one kind of these holders."""
        return [self.files / f"{name}.{kind}.json" for name in names]

    def begin_words(self, kind: str, name: str, names: Sequence[str], *options: object) -> list[object]:
        """Return the words with which a holder begins a ceremony, without the fingerprint."""
        files = self.of("participant", names) if kind in ("deal", "reshare") else []
        return [kind, *files, *options, "--folder", self.folder(name), "--out", self.files / f"{name}.deal.json"]

    def certify_words(self, name: str, names: Sequence[str]) -> list[object]:
        """Return the words with which a holder certifies, without the fingerprint."""
        out = self.files / f"{name}.certificate.json"
        return ["certify", *self.of("deal", names), "--folder", self.folder(name), "--out", out]

    def finish_words(self, name: str, names: Sequence[str], *options: object) -> list[object]:
        """Return the words with which a holder finishes."""
        out = self.files / f"{name}.card.json"
        files = self.of("certificate", names)
        return ["finish", *files, *options, "--folder", self.folder(name), "--out", out]

    def begin(self, kind: str, names: Sequence[str], *options: object, card_for: Sequence[str] = ()) -> str:
        """Let all holders begin a ceremony, and return the fingerprint that the first one shows and all confirm."""
        digits = ""
        for name in names:
            own = ["--card", self.files / f"{names[0]}.card.json"] if name in card_for else []
            words = self.begin_words(kind, name, names, *options, *own)
            digits = digits or shown(words)
            run(*words, "--fingerprint", digits)
        return digits

    def certify(self, names: Sequence[str]) -> str:
        """Let all holders certify, and return the fingerprint that the first one shows and all confirm."""
        digits = shown(self.certify_words(names[0], names))
        for name in names:
            run(*self.certify_words(name, names), "--fingerprint", digits)
        return digits

    def finish(self, names: Sequence[str]) -> str:
        """Let all holders finish, and return the fingerprint of the statement that they have in common."""
        digits = {run(*self.finish_words(name, names))["fingerprint"] for name in names}
        assert len(digits) == 1
        return str(digits.pop())

    def all_rounds(self, kind: str, names: Sequence[str], *options: object, card_for: Sequence[str] = ()) -> None:
        """Do a whole ceremony."""
        self.begin(kind, names, *options, card_for=card_for)
        self.certify(names)
        self.finish(names)

    def card(self, name: str) -> Card:
        """Return a holder's card."""
        return parse_card((self.files / f"{name}.card.json").read_bytes())

    def cards(self, names: Sequence[str]) -> KeyStatement:
        """Return the statement of the cards of these holders, which is the same in all, and signed by each."""
        cards = [self.card(name) for name in names]
        assert {card.holder.key.holder for card in cards} == set(names)
        assert len({card.statement.canonical for card in cards}) == 1
        return cards[0].statement

    def secret(self, names: Sequence[str], epoch: int, generation: int) -> int:
        """Return the key that the shares of these holders give (plain integers)."""
        points = []
        for name in names:
            for share in active_shares(self.folder(name)):
                if (share.epoch, share.generation) == (epoch, generation):
                    points.append((share.index, int.from_bytes(share.secret, "little")))
        assert len(points) == len(names)
        return interpolated(points)


def interpolated(points: Sequence[tuple[int, int]]) -> int:
    """Return the value at 0 of the polynomial through these points (Shamir, with plain integers)."""
    total = 0
    for i, value in points:
        numerator = denominator = 1
        for j, _ in points:
            if j != i:
                numerator, denominator = numerator * j % GROUP_ORDER, denominator * (j - i) % GROUP_ORDER
        total += value * numerator * pow(denominator, -1, GROUP_ORDER)
    return total % GROUP_ORDER


def public_of(secret: int) -> bytes:
    """Return the public key of a secret."""
    return public_key(secret.to_bytes(32, "little"))


def shown(words: Sequence[object]) -> str:
    """Return the fingerprint that a step shows before it does anything."""
    return str(refusal(*words, code=2)["details"]["fingerprint"])


def confirmed(words: Sequence[object]) -> dict[str, Any]:
    """Run a step with the fingerprint that it shows, and return its answer."""
    return run(*words, "--fingerprint", shown(words))


def altered(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the members of a JSON file."""
    members = json.loads(path.read_text())
    change(members)
    path.write_text(json.dumps(members))
