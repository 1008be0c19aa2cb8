"""Checkpoints and receipts that were kept as files: editors and mail change line ends, and disks fail."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.client.state import SeenCheckpoint
from ledger.client.verify.local_text import kept_text
from ledger.errors import ConfigurationError
from tests.client.small_ledger import ORIGIN, SmallLedger

MARK = "\ufeff".encode()


def seen(ledger: SmallLedger) -> SeenCheckpoint:
    return SeenCheckpoint(ledger.folder / "checkpoint", ORIGIN, ledger.log_key.public_key().public_bytes_raw())


@given(st.text(alphabet=st.characters(exclude_characters="\r\ufeff", codec="utf-8"), min_size=1))
def test_what_editors_do_is_undone(text: str) -> None:
    text = (text.strip("\n") or "x") + "\n"
    forms = [text, text.replace("\n", "\r\n"), text.removesuffix("\n")]
    for form in forms:
        assert kept_text(form.encode()) == kept_text(MARK + form.encode()) == (text if form else "")


def test_a_checkpoint_that_an_editor_saved_is_taken(ledger: SmallLedger) -> None:
    note = ledger.note()
    for form in (note.encode(), MARK + note.encode(), note.replace("\n", "\r\n").encode(), note.rstrip("\n").encode()):
        (ledger.folder / "checkpoint").write_bytes(form)
        assert seen(ledger).note() == note


@pytest.mark.parametrize(
    "damage", [b"", bytes(200), b"not a checkpoint\n", b"\xff\xfe", b"other.test/log\n1\nAAAA\n\n"]
)
def test_a_damaged_checkpoint_is_no_attack_by_the_log(ledger: SmallLedger, damage: bytes) -> None:
    (ledger.folder / "checkpoint").write_bytes(damage)
    for call in (seen(ledger).note, lambda: seen(ledger).accept(ledger.note(), lambda _: b"")):
        with pytest.raises(ConfigurationError) as caught:
            call()
        assert "The file checkpoint in the state folder" in str(caught.value)
        assert "Nothing is wrong with the ledger's answer" in str(caught.value)
