"""What an attacker would try on a stolen database, a public log and a snapshot, without k or without an element."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice, pairwise

import pytest
from sqlalchemy import select

from ledger.protocol import voprf
from ledger.protocol.encoding import b64url
from ledger.protocol.identifiers import Kind, canonical
from ledger.protocol.tags import prefix, subject_commitment, tag
from ledger.server.db.engine import reading
from ledger.server.db.schema import Base
from ledger.server.keys.files import load_log_key
from ledger.server.snapshots.builder import PublishedSnapshot, build_and_publish
from ledger.server.snapshots.files import folder_of
from ledger.snapshots import sealed
from ledger.snapshots.layout import ENTRY_BYTES
from tests.server.conftest import LedgerFixture
from tests.support import element_of

pytestmark = pytest.mark.one_engine

PHONE = "+8613800138042"
KIND = Kind.PHONE


@dataclass
class Loot:
    """Everything in the database, the log and the snapshots, as one string of bytes, and all values of 32 bytes."""

    everything: bytes
    values: frozenset[bytes]

    def holds(self, value: bytes) -> bool:
        """Whether `value` is anywhere, raw or in one of the usual spellings."""
        return any(spelling in self.everything for spelling in (value, value.hex().encode(), b64url(value).encode()))


def snapshot(ledger: LedgerFixture) -> PublishedSnapshot:
    rt = ledger.rt
    return build_and_publish(
        rt.settings, rt.engine, load_log_key(rt.settings), rt.now(), random_bytes=secrets.token_bytes
    )


def files(ledger: LedgerFixture, version: bytes) -> Iterator[bytes]:
    for path in sorted(folder_of(ledger.rt.settings, version).iterdir()):
        yield path.read_bytes()


def steal(ledger: LedgerFixture, *versions: bytes) -> Loot:
    """Every column of every row, and the files of these snapshots."""
    parts: list[bytes] = []
    values: set[bytes] = set()
    with reading(ledger.rt.engine) as connection:
        for table in Base.metadata.sorted_tables:
            for row in connection.execute(select(table)):
                for value in row:
                    if isinstance(value, bytes | memoryview):
                        parts.append(bytes(value))
                        values.add(bytes(value))
                    else:
                        parts.append(str(value).encode())
    for version in versions:
        parts += files(ledger, version)
    return Loot(b"\x00".join(parts), frozenset(values))


def guesses(loot: Loot, raw: str) -> Iterator[bytes]:
    """What can be computed about a guessed number without k, with every stored value of 32 bytes tried as a key."""
    message = canonical(KIND, raw)
    point = voprf.hash_to_group(message)
    for text in (message, raw.encode(), raw.lstrip("+").encode(), raw[3:].encode()):
        for name in ("sha256", "sha512", "blake2b", "md5", "sha1"):
            yield hashlib.new(name, text).digest()
        for key in loot.values:
            if len(key) == 32:
                yield hmac.digest(key, text, "sha256")
    yield point
    yield tag(KIND, point)
    for key in loot.values:
        if len(key) == 32:
            for epoch in (1, 2):
                yield subject_commitment(key, epoch, KIND, point)


def report_somebody(ledger: LedgerFixture, raw: str = PHONE) -> bytes:
    element = element_of(ledger.rt, KIND, raw)
    ledger.report(ledger.acme, [(KIND, element)])
    return element


def test_a_stolen_database_tells_nothing_about_a_number(ledger: LedgerFixture) -> None:
    element = report_somebody(ledger)
    ledger.lookup([(KIND, element)])
    version = snapshot(ledger).version
    loot = steal(ledger, version)
    for spelling in (PHONE, PHONE[1:], PHONE[3:]):
        assert spelling.encode() not in loot.everything
    assert not any(loot.holds(guess) for guess in guesses(loot, PHONE))
    # With k, and only with it, the guess is confirmed at once: that is what the threat model says.
    assert loot.holds(tag(KIND, element))


def test_elements_of_a_number_under_two_keys_have_nothing_in_common(ledger: LedgerFixture) -> None:
    """A rotated ledger, or another one, cannot be joined with the first by what is stored."""
    element = report_somebody(ledger)
    other = voprf.derive_secret(secrets.token_bytes(32), b"another key")
    point = voprf.hash_to_group(canonical(KIND, PHONE))
    blinded = voprf.evaluate(other, [point], secrets.token_bytes(64)).evaluated[0]
    loot = steal(ledger)
    assert loot.holds(element)
    assert not loot.holds(blinded)
    assert not loot.holds(tag(KIND, blinded))


def buckets(ledger: LedgerFixture, found: PublishedSnapshot) -> list[bytes]:
    data = (folder_of(ledger.rt.settings, found.version) / "buckets.bin").read_bytes()
    size = found.manifest.capacity * ENTRY_BYTES
    return [data[start : start + size] for start in range(0, len(data), size)]


def entries(bucket: bytes) -> list[bytes]:
    return [bucket[start : start + ENTRY_BYTES] for start in range(0, len(bucket), ENTRY_BYTES)]


def test_nobody_without_the_element_can_tell_whose_entry_changed(ledger: LedgerFixture) -> None:
    everybody = [report_somebody(ledger, f"+86138001380{number:02d}") for number in range(12)]
    before = snapshot(ledger)
    old = buckets(ledger, before)
    changed = everybody[5]
    ledger.report(ledger.bolt, [(KIND, changed)])
    after = snapshot(ledger)
    new = buckets(ledger, after)
    assert [len(bucket) for bucket in old] == [len(bucket) for bucket in new]
    assert before.manifest.capacity == after.manifest.capacity
    # Nothing of any bucket comes again, of the changed person's no more and no less than of the others.
    blocks = {block for bucket in old for entry in entries(bucket) for block in _blocks(entry)}
    assert not any(block in blocks for bucket in new for entry in entries(bucket) for block in _blocks(entry))
    # Who holds an element finds exactly its own events.
    for person in everybody:
        place = prefix(tag(KIND, person), after.manifest.bits)
        opened = sealed.open_bucket(new[place], person, KIND, after.version, place)
        assert len(opened) == (2 if person == changed else 1)
        groups = {event.group for event in opened}
        was = sealed.open_bucket(
            old[prefix(tag(KIND, person), before.manifest.bits)], person, KIND, before.version,
            prefix(tag(KIND, person), before.manifest.bits),
        )  # fmt: skip
        assert groups.isdisjoint({event.group for event in was}), "pseudonyms are of one snapshot only"


def _blocks(entry: bytes) -> list[bytes]:
    return [entry[start : start + 16] for start in range(0, len(entry), 16)]


def test_a_bucket_of_somebody_looks_like_a_bucket_of_nobody(ledger: LedgerFixture) -> None:
    numbers = (f"+861380013{number:04d}" for number in count(8100))
    candidates = (number for number in numbers if prefix(tag(KIND, element_of(ledger.rt, KIND, number)), 1) == 0)
    for number in islice(candidates, 12):
        report_somebody(ledger, number)
    found = snapshot(ledger)
    all_buckets = buckets(ledger, found)
    # Nobody's tag begins with a one, so the second half of the buckets holds dummies only.
    assert len(all_buckets) >= 4
    for bucket in all_buckets:
        assert len(bucket) == found.manifest.capacity * ENTRY_BYTES
        checks = [entry[: sealed.CHECK_BYTES] for entry in entries(bucket)]
        assert all(left < right for left, right in pairwise(checks)), "sorted, so that the place tells nothing"
        assert len(zlib.compress(bucket, 9)) > len(bucket), "no structure that a compressor could find"
        ones = int.from_bytes(bucket, "big").bit_count() / (8 * len(bucket))
        assert abs(ones - 0.5) < 0.02, "ten standard deviations of a random string of 8 KiB"


def test_the_secret_of_a_snapshot_is_gone_once_it_is_published(ledger: LedgerFixture) -> None:
    report_somebody(ledger)
    secret: list[bytes] = []

    def remembered(count: int) -> bytes:
        secret.append(secrets.token_bytes(count))
        return secret[-1]

    rt = ledger.rt
    build_and_publish(rt.settings, rt.engine, load_log_key(rt.settings), rt.now(), random_bytes=remembered)
    loot = steal(ledger)
    version, *keys = secret
    assert loot.holds(version)
    assert keys
    assert not any(loot.holds(key) for key in keys)
