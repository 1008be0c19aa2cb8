"""The verifier of a served log: it accepts a true log, and notices a single bit, a fork, a rollback, a lie."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tlog_scales.backend import HttpBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey
from tlog_scales.tlog import ConsistencyProof, InclusionProof

from ledger.client.verify.log import LogReport, compare_views, verify_log
from ledger.errors import (
    Equivocation,
    Inconsistent,
    InvalidCheckpoint,
    InvalidInclusion,
    InvalidLeaf,
    InvalidTile,
    LedgerError,
    NotFound,
    ProofError,
)
from ledger.protocol.encoding import canonical_json
from ledger.tlog import merkle
from ledger.tlog.checkpoint import Checkpoint, sign, verifier_key
from ledger.tlog.entries import GovernanceType, commitment, event_leaf, governance_leaf
from ledger.tlog.proof import format_receipt
from tests.counts import trials
from tests.oracles import root_of

ORIGIN = "refund-ledger.test/log"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
START = datetime(2026, 11, 1, tzinfo=UTC)


def salt(index: int) -> bytes:
    return merkle.leaf_hash(b"salt %d" % index)


def body(index: int) -> bytes:
    return canonical_json({"type": "report", "n": index})


def leaf(index: int) -> bytes:
    """Governance first and now and then, events otherwise, a hundred an hour."""
    hour = START + timedelta(hours=index // 100)
    if index % 97 == 0:
        return governance_leaf(index, GovernanceType.PLATFORM_STATUS, hour, {"version": index // 97 + 1})
    return event_leaf(index, hour, commitment(salt(index), body(index)))


@dataclass
class Log:
    """A log as files, the way it is served: path -> bytes. Tests share logs: one that changes files takes a copy."""

    leaves: list[bytes]
    key: Ed25519PrivateKey = KEY
    files: dict[str, bytes] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.hashes = [merkle.leaf_hash(item) for item in self.leaves]
        growth = merkle.grow(0, {}, self.hashes)
        self.tiles = growth.tiles
        for (level, index), data in growth.tiles.items():
            self.files[merkle.tile_path(level, index, len(data) // 32)] = data
        for first in range(0, growth.size, 256):
            bundle = self.leaves[first : first + 256]
            name = merkle.tile_path("entries", first // 256, len(bundle))
            self.files[name] = merkle.encode_bundle(bundle)
        self.note = self.note_at(growth.size)
        self.files["checkpoint"] = self.note.encode()

    def root(self, size: int) -> bytes:
        return root_of(self.hashes[:size])

    def note_at(self, size: int) -> str:
        return sign(Checkpoint(ORIGIN, size, self.root(size)), self.key)

    def receipt(self, index: int, size: int, **changes: Any) -> str:
        values: dict[str, Any] = {
            "index": index,
            "hashes": merkle.inclusion_proof(index, size, lambda level, at: self.tiles[level, at]),
            "checkpoint_note": self.note_at(size),
            "body": body(index),
            "hour": START + timedelta(hours=index // 100),
            "salt": salt(index),
        }
        return format_receipt(**{**values, **changes})

    def without(self, *paths: str) -> Log:
        """A copy that does not have these files."""
        other = copy(self)
        other.files = {path: data for path, data in self.files.items() if path not in paths}
        return other

    def having(self, path: str, data: bytes) -> Log:
        """A copy in which the file has this content."""
        other = copy(self)
        other.files = {**self.files, path: data}
        return other

    def fetch(self, path: str) -> bytes:
        try:
            return self.files[path]
        except KeyError as error:
            raise NotFound("No such resource.") from error


LEAVES = [leaf(index) for index in range(1100)]
LOG, SMALL = Log(LEAVES[:1000]), Log(LEAVES[:600])
MANY, RECEIVED = 66_100, 65_999


@cache
def three_levels() -> Log:
    """A log with enough leaves for three levels of tiles, of which LOG is a prefix. Further leaves are events whose
    commitments repeat, except the one that has a receipt."""
    later = {hour: event_leaf(0, START + timedelta(hours=hour), bytes(32)) for hour in range(MANY // 100 + 1)}
    leaves = [later[index // 100].replace(b'"index":0', b'"index":%d' % index) for index in range(1000, MANY)]
    leaves[RECEIVED - 1000] = leaf(RECEIVED)
    return Log(LEAVES[:1000] + leaves)


def verify(log: Log, last_seen: str | None = None, **options: Any) -> LogReport:
    return verify_log(log.fetch, ORIGIN, PUBLIC, last_seen, **options)


def changed(index: int, replacement: bytes) -> Log:
    """A log that differs from LOG in one leaf and is otherwise wholly in order."""
    return Log([*LEAVES[:index], replacement, *LEAVES[index + 1 : 1000]])


@cache
def fork() -> Log:
    """Another history: entry 500 is not that of LOG."""
    return changed(500, event_leaf(500, START, bytes(32)))


# --- a true log ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, 1000])
def test_a_true_log_is_verified_and_each_resource_read_once(size: int) -> None:
    log = Log(LEAVES[:size])
    read: list[str] = []
    steps: list[tuple[int, int]] = []

    def fetch(path: str) -> bytes:
        read.append(path)
        return log.fetch(path)

    report = verify_log(fetch, ORIGIN, PUBLIC, progress=lambda done, total: steps.append((done, total)))
    assert sorted(read) == sorted(log.files)
    assert report.checkpoint == Checkpoint(ORIGIN, size, log.root(size))
    assert report.note == log.note
    governance = len(range(0, size, 97))
    assert (report.entries_count, report.events_count) == (size, size - governance)
    assert (report.bundles_count, report.tiles_count) == (-(-size // 256), len(log.tiles))
    assert report.last_seen_size is None
    assert steps == [(min(done + 256, size), size) for done in range(0, size, 256)]


def test_a_log_of_three_levels() -> None:
    log = three_levels()
    report = verify(log, LOG.note, receipts=[log.receipt(RECEIVED, RECEIVED + 1)])
    assert (report.entries_count, report.tiles_count, report.last_seen_size) == (MANY, 259 + 2 + 1, 1000)
    with pytest.raises(InvalidTile):
        verify(log.having("tile/2/000.p/1", bytes(32)))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 999, 1000])
def test_every_earlier_checkpoint_is_found_to_be_a_prefix(size: int) -> None:
    assert verify(LOG, LOG.note_at(size)).last_seen_size == size


def test_receipts_are_checked_against_the_log_itself() -> None:
    texts = [LOG.receipt(1, 2), LOG.receipt(300, 777), LOG.receipt(999, 1000)]
    report = verify(LOG, LOG.note_at(256), receipts=texts)
    assert [item.index for item in report.receipts] == [1, 300, 999]
    assert report.receipts[1].entry == {"type": "report", "n": 300}
    with pytest.raises(InvalidInclusion):
        verify(LOG, receipts=[*texts, LOG.receipt(300, 777, body=body(301))])


def test_a_grown_log_may_have_dropped_its_partial_tiles() -> None:
    old = Log(LEAVES).having("checkpoint", LOG.files["checkpoint"])
    old = old.having("tile/1/000.p/3", LOG.files["tile/1/000.p/3"])
    assert "tile/0/003.p/232" not in old.files
    assert verify(old).entries_count == 1000
    with pytest.raises(InvalidTile):
        verify(old.having("tile/0/003", old.files["tile/0/003"][:-32]))


# --- a false one --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SMALL.files)
def test_one_flipped_bit_in_any_resource_is_noticed(path: str) -> None:
    chance = random.Random(path)
    original = SMALL.files[path]
    bits = {0, 7, len(original) * 8 - 1} | {chance.randrange(len(original) * 8) for _ in range(trials(12, 25))}
    for bit in sorted(bits):
        data = bytearray(original)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProofError):
            verify(SMALL.having(path, bytes(data)))


@pytest.mark.parametrize("path", SMALL.files)
def test_a_missing_cut_or_longer_resource_is_noticed(path: str) -> None:
    original = SMALL.files[path]
    with pytest.raises(NotFound):
        verify(SMALL.without(path))
    for data in (b"", original[:-1], original[:-32], original + b"\x00", original + bytes(32), original * 2):
        with pytest.raises(ProofError):
            verify(SMALL.having(path, data))


def test_entries_exchanged_consistently_do_not_make_the_signed_root() -> None:
    note = LOG.files["checkpoint"]
    with pytest.raises(LedgerError) as caught:
        verify(changed(500, leaf(500).replace(b'"event"', b'"Event"')).having("checkpoint", note))
    assert type(caught.value) is InvalidLeaf
    with pytest.raises(Inconsistent) as mismatch:
        verify(fork().having("checkpoint", note))
    assert type(mismatch.value) is Inconsistent


@pytest.mark.parametrize(
    "replacement",
    [
        leaf(499),
        b"",
        b"\xff",
        b"{}",
        leaf(500) + b" ",
        leaf(500).replace(b":", b": "),
        leaf(500).replace(b"event", b"report"),
        leaf(500)[:-1] + b',"platform":"acme"}',
        leaf(500).replace(b":00:00Z", b":00:01Z"),
    ],
)
def test_the_log_itself_must_not_sign_malformed_or_misplaced_leaves(replacement: bytes) -> None:
    with pytest.raises(InvalidLeaf):
        verify(changed(500, replacement))


def test_another_key_or_origin_is_refused() -> None:
    other = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    with pytest.raises(InvalidCheckpoint):
        verify(Log(LEAVES[:10], other))
    with pytest.raises(InvalidCheckpoint):
        verify_log(LOG.fetch, "else.test/log", PUBLIC)
    with pytest.raises(InvalidCheckpoint):
        verify(LOG, Log(LEAVES[:10], other).note)


def test_a_rolled_back_log_is_noticed() -> None:
    for options in ({"last_seen": LOG.note}, {"receipts": [LOG.receipt(999, 1000)]}):
        with pytest.raises(Inconsistent):
            verify(SMALL, **options)


@pytest.mark.parametrize("size", [501, 600, 768, 1000])
def test_a_rewritten_history_is_noticed_and_called_equivocation(size: int) -> None:
    rewritten = fork()
    with pytest.raises(Equivocation):
        verify(rewritten, LOG.note_at(size))
    with pytest.raises(Equivocation):
        verify(rewritten, receipts=[LOG.receipt(400, size)])
    assert verify(rewritten, LOG.note_at(500)).last_seen_size == 500


def test_an_error_of_the_transport_passes_through() -> None:
    def fetch(path: str) -> bytes:
        raise ConnectionError(path)

    with pytest.raises(ConnectionError, match="checkpoint"):
        verify_log(fetch, ORIGIN, PUBLIC)


# --- two views ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 256, 700, 999, 1000])
def test_two_views_of_one_history(size: int) -> None:
    for notes in ((LOG.note, LOG.note_at(size)), (LOG.note_at(size), LOG.note)):
        comparison = compare_views(*notes, LOG.fetch, ORIGIN, PUBLIC)
        assert (comparison.older.size, comparison.newer.size) == (size, 1000)


def test_comparing_reads_a_few_tiles_only() -> None:
    log = three_levels()
    read: set[str] = set()

    def fetch(path: str) -> bytes:
        read.add(path)
        return log.fetch(path)

    compare_views(LOG.note, log.note, fetch, ORIGIN, PUBLIC)
    assert len(read) <= 6


@pytest.mark.parametrize("size", [501, 700, 1000])
def test_two_histories_are_equivocation(size: int) -> None:
    for notes in ((LOG.note, fork().note_at(size)), (fork().note_at(size), LOG.note)):
        with pytest.raises(Equivocation):
            compare_views(*notes, LOG.fetch, ORIGIN, PUBLIC)
    assert compare_views(LOG.note, fork().note_at(500), LOG.fetch, ORIGIN, PUBLIC).older.size == 500


def test_false_tiles_never_pass_for_equivocation() -> None:
    for notes in ((LOG.note, LOG.note_at(700)), (LOG.note, fork().note_at(700))):
        with pytest.raises(InvalidTile):
            compare_views(*notes, fork().fetch, ORIGIN, PUBLIC)
    with pytest.raises(NotFound):
        compare_views(LOG.note, LOG.note_at(700), SMALL.fetch, ORIGIN, PUBLIC)


def test_a_view_the_log_did_not_sign_is_refused() -> None:
    other = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    with pytest.raises(InvalidCheckpoint):
        compare_views(LOG.note, Log(LEAVES[:10], other).note, LOG.fetch, ORIGIN, PUBLIC)


# --- an independent implementation --------------------------------------------------------------------------


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Not to the terminal."""


@contextmanager
def served(log: Log, folder: Path) -> Iterator[str]:
    """The log's files behind a real loopback HTTP server; yields the log's prefix."""
    for path, data in log.files.items():
        target = folder / "log" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/log"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_another_implementation_reads_our_log_over_http(tmp_path: Path) -> None:
    log = three_levels()
    with served(log, tmp_path) as prefix:
        backend = HttpBackend(prefix)
        try:
            reader = TilesReader(backend)
            seen = reader.get_checkpoint()
            seen.verify(Vkey.from_string(verifier_key(ORIGIN, PUBLIC)))
            assert (seen.origin, seen.size) == (ORIGIN, MANY)
            assert reader.calculate_root_hash() == seen.root_hash == log.root(MANY)
            read: Callable[[int, int], bytes] = lambda level, index: log.tiles[level, index]  # noqa: E731
            for index in (0, 255, 256, 65_535, 65_536, MANY - 1):
                assert reader.get_entry(index) == log.leaves[index]
                theirs = reader.get_inclusion_proof(index, seen.size)
                ours = merkle.inclusion_proof(index, seen.size, read)
                assert theirs.node_hashes == ours
                InclusionProof(index, seen.size, ours).check(log.hashes[index], seen.root_hash)
                merkle.verify_inclusion(index, seen.size, log.hashes[index], theirs.node_hashes, seen.root_hash)
            for size in (1, 256, 1000, 65_536, 66_000, MANY - 1, MANY):
                proof = reader.get_consistency_proof(size, seen.size)
                ours = merkle.consistency_proof(size, seen.size, read)
                assert proof.node_hashes == ours
                ConsistencyProof(size, seen.size, ours).check(log.root(size), seen.root_hash)
        finally:
            backend.session.close()
