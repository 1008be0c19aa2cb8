"""A state folder that is full, or becomes so while a snapshot is stored: checks go on from memory, with one warning."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.client import RefundLedger
from ledger.client.identity.keyfiles import is_mounted, load_or_create_signing_key
from ledger.client.snapshots import new_file
from ledger.client.snapshots.new_file import NewFile
from ledger.client.state import _UNWRITABLE
from ledger.errors import ConfigurationError
from tests.client.contained import report
from tests.client.small_ledger import SmallLedger
from tests.client.test_containers import ANSWERS, as_root, contained, written
from tests.counts import trials
from tests.support import CONSENT, ROOT

needs_unshare = pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")


class Disk:
    """The module `os`, with a disk that takes `room` bytes and says `number` then; or says so in one `call` only."""

    def __init__(self, room: int, number: int, call: str = "write") -> None:
        self._room, self._number, self._call = room, number, call

    def __getattr__(self, name: str) -> Any:
        if name == self._call != "write":
            return self._fail
        return getattr(os, name)

    def _fail(self, *_: object) -> None:
        raise OSError(self._number, os.strerror(self._number))

    def write(self, descriptor: int, data: memoryview) -> int:
        if self._call == "write" and not self._room:
            self._fail()
        if self._call != "write":
            return os.write(descriptor, data)
        taken = os.write(descriptor, data[: self._room])
        self._room -= taken
        return taken


@settings(max_examples=trials(24, 1000), deadline=None)
@given(
    parts=st.lists(st.binary(max_size=50), max_size=8),
    room=st.integers(0, 200),
    number=st.sampled_from(sorted(_UNWRITABLE)),
    call=st.sampled_from(["write", "open", "fsync", "replace"]),
)
def test_what_was_written_is_whole_wherever_it_ends(parts: list[bytes], room: int, number: int, call: str) -> None:
    calls: list[int | None] = []
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(new_file, "os", Disk(room, number, call))
        target = Path(name) / "below" / "filter.bin"
        file = NewFile(target.with_name(".filter.bin"), target, lambda error: calls.append(error.errno))
        for part in parts:
            assert file.write(part) == len(part)
        kept = file.finish()
        file.close()
        whole = b"".join(parts)
        assert (target.read_bytes() if kept is None else kept) == whole
        assert calls == ([] if kept is None else [number]), "told once"
        assert kept is None or [*target.parent.iterdir()] == [], "the room is given back"


@pytest.mark.parametrize("call", ["write", "open", "fsync", "replace"])
def test_other_faults_of_the_disk_are_told(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_file, "os", Disk(3, errno.EIO, call))

    def write() -> None:
        file = NewFile(tmp_path / ".x", tmp_path / "x", lambda _: pytest.fail("this is no full disk"))
        try:
            file.write(b"12345")
            file.finish()
        finally:
            file.close()

    with pytest.raises(ConfigurationError, match="cannot be stored"):
        write()
    assert list(tmp_path.iterdir()) == []


@as_root
@needs_unshare
def test_a_disk_that_is_full_in_the_middle_of_a_download_stops_no_check(ledger: SmallLedger, tmp_path: Path) -> None:
    """The buckets have 64 KiB, the state folder has 40."""
    ledger.publish()
    state = tmp_path / "small"
    state.mkdir()
    script = f'mount -t tmpfs -o size=40k tmpfs {state} && exec "$@"'
    if subprocess.run(["unshare", "-m", "sh", "-c", script, "-", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system does not let root mount a folder")
    key = ledger.folder / "acme.pem"
    load_or_create_signing_key(key)
    client = {"suite": written(ledger, "now"), "key": str(key), "state_dir": str(state)}
    (answer,) = contained(client, prefix=["unshare", "-m", "sh", "-c", script, "-"])
    assert [answer[name] for name in ANSWERS] == ["None", "1", "clear", "clear", "clear", "clear", "1"]
    warned = [line for line in answer["warnings"] if "kept in memory" in line]
    assert len(warned) == 1
    assert warned[0].startswith("state_in_memory: The state folder cannot be used (no space left on device)")


@as_root
@needs_unshare
def test_a_key_in_the_own_layer_of_a_container_is_its_own(tmp_path: Path) -> None:
    """overlayfs gives a file the device of its layer where layers lie on several file systems; a file that was mounted
    over it lies on a mount of its own, whatever its device is."""
    for name in ("lower", "upper", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "secret.pem").touch()
    script = f"""
        cd {tmp_path} && mount -t tmpfs tmpfs lower && mount -t tmpfs tmpfs upper && mkdir upper/up upper/work
        echo image > lower/image.pem && echo > lower/bound.pem && echo > lower/same.pem
        mount -t overlay overlay -o lowerdir=lower,upperdir=upper/up,workdir=upper/work merged || exit 42
        echo made > merged/made.pem
        mount --bind secret.pem merged/bound.pem && mount --bind merged/image.pem merged/same.pem
        cd {ROOT} && exec "$@"
    """
    names = ["image.pem", "made.pem", "bound.pem", "same.pem", "missing.pem"]
    paths = [str(tmp_path / "merged" / name) for name in names]
    program = "import sys; from ledger.client.identity.keyfiles import is_mounted as m; from pathlib import Path as P; "
    program += "print(*[int(m(P(one))) for one in sys.argv[1:]])"
    command = ["unshare", "-m", "sh", "-c", script, "-", sys.executable, "-c", program, *paths]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if done.returncode == 42:
        pytest.skip("this system does not let root mount an overlay")
    assert done.stdout.split() == ["0", "0", "1", "1", "1"], done.stderr


def test_where_the_kernel_tells_no_mounts_devices_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "acme.pem"
    load_or_create_signing_key(key)
    assert not is_mounted(key)
    monkeypatch.delattr(os, "O_PATH")
    assert not is_mounted(key)
    assert is_mounted(Path("/proc/self/status")) or os.geteuid() == 0


def test_all_warnings_are_events_of_the_one_logger(
    ledger: SmallLedger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits in the outbox, and a new order key, each with its fields."""
    load_or_create_signing_key(tmp_path / "acme.pem")
    who = {"phone": "+86 138 0013 8000"}
    suite, state = written(ledger, "now"), tmp_path / "state"
    with RefundLedger(suite, tmp_path / "acme.pem", state_dir=state, budget_seconds=0.5) as acme:
        acme.lookup(who, order="A-1", consent_ref=CONSENT)
        report(acme)
    events = {record.event: record.fields for record in caplog.records if hasattr(record, "event")}  # type: ignore[attr-defined]
    assert events["order_key_made"] == {"file": "acme.order.key", "platform": "acme"}
    assert events["outbox_pending"]["pending"] == 1
    assert {record.name for record in caplog.records if record.name.startswith(("ledger", "refund"))} == {
        "refund_ledger"
    }
