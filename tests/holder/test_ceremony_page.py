"""The commands of docs/ceremonies.md, run by three holders in the order of the page."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ledger.cli import app, output
from ledger.holder import backup
from ledger.holder.shares import active_shares
from ledger.tlog.ledger_card import ledger_card_text
from tests.holder.ceremony_kit import CARD, ORGANISATIONS
from tests.support import ROOT

HOLDERS = ("north", "south", "east")
PASSPHRASE = "six random words are a passphrase"
PAGE = (ROOT / "docs" / "ceremonies.md").read_text(encoding="utf-8")


def shown(command: str) -> list[str]:
    """Return the lines of the page's examples that run `refund-ledger holder COMMAND`."""
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).splitlines()
    return [line for line in lines if line.startswith(f"refund-ledger holder {command} ") or line.endswith(command)]


class Room:
    """A working folder for each holder; what one writes is given to all."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root, self._monkeypatch = root, monkeypatch
        for name in HOLDERS:
            (root / name).mkdir()
            (root / name / "ledger.json").write_text(ledger_card_text(CARD))

    def folder(self, name: str) -> Path:
        """Return the working folder of a holder."""
        return self._root / name

    def all_run(self, line: str) -> None:
        """Let each holder run a line of the page, and give what it wrote to the others."""
        for name in HOLDERS:
            self.run(name, line)
        for kind in ("participant", "deal", "certificate"):
            for name in HOLDERS:
                written = self.folder(name) / f"{name}.{kind}.json"
                for other in HOLDERS:
                    if written.exists() and other != name:
                        shutil.copy(written, self.folder(other))

    def run(self, name: str, line: str) -> str:
        """Run a line of the page as one holder, who answers yes and has a passphrase, and return what it prints."""
        self._monkeypatch.chdir(self.folder(name))
        own = line.replace("north", name).replace("North Bank", ORGANISATIONS[name])
        words = [
            file
            for word in shlex.split(own)[1:]
            for file in (sorted(path.name for path in Path().glob(word)) if "*" in word else [word])
        ]
        output.reset()
        asked = f"{PASSPHRASE}\n{PASSPHRASE}\n" if "--backup" in words else "y\n"
        done = CliRunner().invoke(app, words, input=PASSPHRASE + "\n" if "restore" in words else asked)
        assert done.exit_code == 0, done.output
        return done.stdout


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFUND_LEDGER_HOLDER_DIR", raising=False)
    monkeypatch.setattr(backup, "MEMORY_KIB", 8 * 1024)
    room = Room(tmp_path, monkeypatch)
    (init,), (deal,), (certify,), (finish,) = (shown(name) for name in ("init", "deal", "certify", "finish"))
    for line in (init, deal, certify, finish):
        room.all_run(line)
    for kind, count in (("refresh", 2), ("rotate", 3)):
        (begin,) = shown(kind)
        for line in (begin, certify, finish.replace("1-1", kind)):
            room.all_run(line)
        assert [len(active_shares(room.folder(name) / "var" / "holder")) for name in HOLDERS] == [count] * 3
    (reshare,) = shown("reshare")
    for line in (reshare, certify, finish.replace("1-1", "reshare")):
        room.all_run(line)
    assert (room.folder("south") / "south.endorsement.json").exists()
    assert not (room.folder("south") / "south-reshare.backup").exists()
    (restore,) = shown("restore")
    assert "Restored east" in room.run("east", restore)
    (restored,) = active_shares(room.folder("east") / "try")
    assert (restored.epoch, restored.generation) == (1, 1)
