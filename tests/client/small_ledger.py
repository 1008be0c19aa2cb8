"""A ledger of a few entries and snapshots, made with the core alone and served over HTTP, with every secret in reach:
what the SDK is shown can be forged at any place."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client import Buyer, RefundLedger, SubjectIds
from ledger.client.identity.suite import parse_suite
from ledger.protocol import voprf
from ledger.protocol.encoding import b64url, canonical_json, day_floor, hour_floor, unb64url
from ledger.protocol.identifiers import canonical, parse_kind
from ledger.protocol.request_digest import question_digest
from ledger.protocol.tags import prefix, tag
from ledger.protocol.threshold import KeySet, Share, combine, verify_share
from ledger.rules.policy.shipped import SHIPPED_VERSION, shipped_version
from ledger.snapshots import fuse_filter as fuse
from ledger.snapshots import sealed
from ledger.snapshots.buckets import bucket_leaf, bucket_path, bucket_root, build_tree
from ledger.snapshots.manifest import Manifest, manifest_body
from ledger.tlog import merkle
from ledger.tlog.checkpoint import Checkpoint, sign, verifier_key
from ledger.tlog.entries import GovernanceType, governance_leaf, key_rotation_body
from ledger.tlog.proof import TlogProof, format_proof
from tests.faulty import answering
from tests.oracles import root_of

SERVICE = "small.test"
ORIGIN = f"{SERVICE}/log"
MANIFEST_LINE = b"refund-ledger snapshot manifest v1\n"
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class PublishedSnapshot:
    """A snapshot: what is served of it, each part to be replaced by a forger."""

    manifest: Manifest
    filter: bytes
    buckets: list[bytes]
    paths: list[bytes]
    latest: dict[str, Any]


def _fixed(name: str, number: int) -> bytes:
    """32 bytes, the same in each run: one filter in 256 holds a person who is not listed, and no run may meet it."""
    return hashlib.sha256(f"{name} {number}".encode()).digest()


@dataclass
class SmallLedger:
    """The ledger of this module. Tags and filters are the same in each run.

    `people` are those listed: {(kind, raw identifier): events}."""

    folder: Path
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    log_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    leaves: list[bytes] = field(default_factory=list)
    oprf: dict[int, bytes] = field(default_factory=dict)
    keys_made: int = 0
    states: dict[int, str] = field(default_factory=dict)
    announced: dict[int, int] = field(default_factory=dict)
    published: list[PublishedSnapshot] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    broken: bool = False
    """Answer 503 to everything."""
    replace: dict[str, Callable[[Answer], Answer]] = field(default_factory=dict)
    """What else to answer, by path."""
    url: str = ""
    policy_version: int = SHIPPED_VERSION

    def __post_init__(self) -> None:
        self.new_key(1)
        self.states[1], self.announced[1] = "current", 0
        self.append(GovernanceType.KEY_ROTATION, self.rotation_body(1))

    # --- the log --------------------------------------------------------------------------------------------------

    def append(self, sort: GovernanceType, body: Mapping[str, Any]) -> int:
        """One more governance entry; its index."""
        self.leaves.append(governance_leaf(len(self.leaves), sort, self.now, body))
        return len(self.leaves) - 1

    def note(self, size: int | None = None, root: bytes | None = None) -> str:
        """A signed checkpoint: of the log's true root unless another is given."""
        size = len(self.leaves) if size is None else size
        true = root_of([merkle.leaf_hash(leaf) for leaf in self.leaves[:size]])
        return sign(Checkpoint(ORIGIN, size, root or true), self.log_key)

    def proof(self, index: int) -> str:
        """The tlog-proof of an entry."""
        tiles = merkle.grow(0, {}, [merkle.leaf_hash(leaf) for leaf in self.leaves]).tiles
        hashes = merkle.inclusion_proof(index, len(self.leaves), lambda level, place: tiles[level, place])
        return format_proof(TlogProof(index, tuple(hashes), self.note()))

    # --- keys -----------------------------------------------------------------------------------------------------

    def new_key(self, epoch: int) -> None:
        """Another secret each time."""
        self.keys_made += 1
        self.oprf[epoch] = voprf.derive_secret(_fixed("key", self.keys_made), b"small ledger")

    def rotation_body(self, epoch: int) -> dict[str, Any]:
        public = voprf.public_key(self.oprf[epoch])
        log_key = verifier_key(ORIGIN, self.log_key.public_key().public_bytes_raw())
        return key_rotation_body(epoch=epoch, holders=[("h", public)], log_origin=ORIGIN, log_key=log_key)

    def holders(self, epoch: int) -> list[dict[str, Any]]:
        return [{"id": "h", "url": None, "public_key": b64url(voprf.public_key(self.oprf[epoch]))}]

    def announce(self, epoch: int, **changes: Any) -> None:
        """Log that `epoch` will follow the current one."""
        self.new_key(epoch)
        self.states[epoch] = "next"
        body = self.rotation_body(self.current) | {"next": {"epoch": epoch, "holders": self.holders(epoch)}}
        self.announced[epoch] = self.append(GovernanceType.KEY_ROTATION, body | changes)

    def switch(self, epoch: int, retire: bool = False) -> None:
        """Make `epoch` current; the one before is previous, or retired at once."""
        self.states[self.current] = "retired" if retire else "previous"
        self.states[epoch] = "current"
        self.append(GovernanceType.KEY_ROTATION, self.rotation_body(epoch))

    @property
    def current(self) -> int:
        return next(epoch for epoch, state in self.states.items() if state == "current")

    def element(self, kind: str, raw: str, epoch: int = 1) -> bytes:
        """The element of an identifier, made with the secret."""
        blind = voprf.derive_secret(secrets.token_bytes(32), b"test blind")
        blinded = voprf.blind([canonical(kind, raw)], [blind])
        evaluation = voprf.evaluate(self.oprf[epoch], blinded, secrets.token_bytes(64))
        keys = KeySet.single("h", voprf.public_key(self.oprf[epoch]))
        share = verify_share(keys, blinded, Share(1, 1, evaluation.evaluated, evaluation.proof))
        return combine([blind], [share])[0]

    def buyer(self, who: Mapping[str, str], epoch: int = 1) -> Buyer:
        """A buyer, without asking anybody."""
        elements = [(parse_kind(kind), self.element(kind, raw, epoch)) for kind, raw in who.items()]
        return Buyer(epoch, tuple([SubjectIds(kind, tag(kind, element), element) for kind, element in elements]))

    # --- snapshots --------------------------------------------------------------------------------------------------

    def event(self, act: int = 1, group: int = 1, **changes: Any) -> sealed.SealedEvent:
        """A false return of six days ago, told for three hours."""
        values: dict[str, Any] = {
            "act": act.to_bytes(8, "big"),
            "group": group.to_bytes(4, "big"),
            "conduct": "fake_return_tracking",
            "act_day": day_floor(self.now) - 6,
            "effective_hour": hour_floor(self.now) - 3,
            "weight": 40,
            "severity": None if self.policy_version == 1 else 3,
        }
        return sealed.SealedEvent(**{**values, **changes})

    def publish(
        self,
        people: Mapping[tuple[str, str], Sequence[sealed.SealedEvent]] = {},
        epoch: int = 1,
        **changes: Any,
    ) -> PublishedSnapshot:
        """A snapshot that lists `people`, logged and served as the newest. `changes` go into the manifest."""
        version, keys = secrets.token_bytes(16), sealed.snapshot_keys(secrets.token_bytes(32), secrets.token_bytes(16))
        bits = 3
        entries: list[list[bytes]] = [[] for _ in range(2**bits)]
        tags = []
        for (kind, raw), events in people.items():
            element = self.element(kind, raw, epoch)
            tags.append(tag(kind, element))
            number = prefix(tags[-1], bits)
            entries[number] += self.sealed(element, kind, version, number, events)
        buckets = [sealed.pad_bucket(part, 64, number, keys) for number, part in enumerate(entries)]
        tree = build_tree([bucket_leaf(version, n, bucket) for n, bucket in enumerate(buckets)])
        filter_file = fuse.build(b"".join(tags), _fixed("filter", len(self.published)))
        text, policy_version = self.policy()
        values: dict[str, Any] = {
            "service": SERVICE,
            "version": version,
            "cut": len(self.leaves),
            "as_of": self.now,
            "not_after": self.now + timedelta(hours=24),
            "epoch": epoch,
            "policy": policy_version,
            "policy_sha256": hashlib.sha256(text.encode()).digest(),
            "bits": bits,
            "capacity": 64,
            "filter_bytes": len(filter_file),
            "filter_sha256": hashlib.sha256(filter_file).digest(),
            "tags": len(tags),
            "buckets_root": bucket_root(tree, bits),
        }
        manifest = Manifest(**{**values, **changes})
        paths = [bucket_path(tree, bits, number) for number in range(2**bits)]
        snapshot = PublishedSnapshot(manifest, filter_file, buckets, paths, {})
        snapshot.latest = self.latest_of(manifest, self.append(GovernanceType.SNAPSHOT, self.manifest_json(manifest)))
        self.published.append(snapshot)
        return snapshot

    def policy(self) -> tuple[str, int]:
        """Text and version of the policy that standings are folded with."""
        text, policy = shipped_version(self.policy_version)
        return text, policy.version

    def manifest_json(self, manifest: Manifest) -> dict[str, Any]:
        """The manifest as it is signed, logged and served."""
        return manifest_body(manifest)

    def sealed(
        self, element: bytes, kind: str, version: bytes, number: int, events: Sequence[sealed.SealedEvent]
    ) -> list[bytes]:
        """The entries of one identifier."""
        return sealed.seal(element, kind, version, number, events)

    def latest_of(self, manifest: Manifest, index: int, key: Ed25519PrivateKey | None = None) -> dict[str, Any]:
        """What `GET /v1/snapshots/latest` answers."""
        body = self.manifest_json(manifest)
        return {
            "version": b64url(manifest.version),
            "manifest": body,
            "signature": b64url((key or self.log_key).sign(MANIFEST_LINE + canonical_json(body))),
            "leaf": self.leaves[index].decode(),
            "proof": self.proof(index),
            "policy_toml": self.policy()[0],
        }

    # --- HTTP -------------------------------------------------------------------------------------------------------

    def suite_json(self) -> dict[str, Any]:
        return {
            "service": SERVICE,
            "environment": "test",
            "suite": voprf.SUITE,
            "epochs": [
                {"epoch": epoch, "state": state, "holders": self.holders(epoch), "entry_index": self.announced[epoch]}
                for epoch, state in self.states.items()
                if state != "retired"
            ],
            "log": {
                "origin": ORIGIN,
                "key": verifier_key(ORIGIN, self.log_key.public_key().public_bytes_raw()),
            },
            "policy": self.policy_version,
        }

    def respond(self, method: str, path: str, body: bytes) -> Answer:
        self.requests.append(path)
        if self.broken:
            return 503, {}, b'{"code": "unavailable", "detail": "Down."}'
        answer = self._answer(path, body)
        change = self.replace.get(path)
        return answer if change is None else change(answer)

    def _answer(self, path: str, body: bytes) -> Answer:
        if path == "/v1/suite":
            return 200, {}, json.dumps(self.suite_json()).encode()
        if path.startswith("/log/"):
            return self._log(path.removeprefix("/log/"))
        if path == "/v1/oprf/evaluate":
            return self._evaluate(json.loads(body))
        if path == "/v1/lookups":
            asked = json.loads(body)["epoch"]
            if self.states.get(asked) not in ("current", "previous"):
                return self.stale()
            return 200, {}, json.dumps(self.clear_lookup(json.loads(body))).encode()
        if path == "/v1/lookups/batch":
            results = [{"status": 200, "lookup": self.clear_lookup(lookup)} for lookup in json.loads(body)["lookups"]]
            return 200, {}, json.dumps({"results": results}).encode()
        if path == "/v1/snapshots/latest" and self.published:
            return 200, {}, json.dumps(self.published[-1].latest).encode()
        for snapshot in self.published:
            base = f"/v1/snapshots/{b64url(snapshot.manifest.version)}/"
            if path == base + "filter":
                return 200, {}, snapshot.filter
            if path == base + "buckets.bin":
                return 200, {}, b"".join(snapshot.buckets)
            if path.startswith(base + "buckets/"):
                number = int(path[-8:], 16)
                return 200, {}, snapshot.buckets[number] + snapshot.paths[number]
        return 404, {}, b'{"code": "snapshot_unknown", "detail": "No such snapshot."}'

    def clear_lookup(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a direct lookup."""
        now = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "id": "lk_1", "tier": "clear", "credit": 100, "points": 0, "events": 0, "reporters": 0, "disputed": False,
            "protected": False, "has_statement": False, "reasons": [], "guidance": [], "matched_kinds": [],
            "policy": self.policy_version, "as_of_index": len(self.leaves), "as_of": now, "expires_at": now,
            "service": SERVICE, "environment": "test", "platform": "acme", "epoch": asked["epoch"],
            "nonce": asked["nonce"], "question": b64url(question_digest(asked, unb64url(asked["nonce"], 16))),
            "key_id": None, "signature": None, "padding": "",
        }  # fmt: skip

    def _evaluate(self, asked: Mapping[str, Any]) -> Answer:
        epoch = asked["epoch"]
        if self.states.get(epoch) not in ("next", "current"):
            return self.stale()
        blinded = [unb64url(text, 32) for text in asked["blinded"]]
        evaluation = voprf.evaluate(self.oprf[epoch], blinded, secrets.token_bytes(64))
        share = {
            "holder": "h",
            "evaluated": [b64url(element) for element in evaluation.evaluated],
            "proof": b64url(evaluation.proof),
        }
        return 200, {}, json.dumps({"epoch": epoch, "shares": [share]}).encode()

    def stale(self) -> Answer:
        """The refusal of an epoch that is not in use."""
        problem = {"code": "stale_epoch", "detail": "Another key epoch.", "epoch": self.current}
        return 409, {}, json.dumps(problem).encode()

    def _log(self, path: str) -> Answer:
        if path == "checkpoint":
            return 200, {}, self.note().encode()
        files: dict[str, bytes] = {}
        for (level, place), data in merkle.grow(
            0, {}, [merkle.leaf_hash(entry) for entry in self.leaves]
        ).tiles.items():
            files[merkle.tile_path(level, place, len(data) // 32)] = data
        for start in range(0, len(self.leaves), 256):
            bundle = self.leaves[start : start + 256]
            files[merkle.tile_path("entries", start // 256, len(bundle))] = merkle.encode_bundle(bundle)
        if path in files:
            return 200, {}, files[path]
        return 404, {}, b'{"code": "not_found", "detail": "No such tile."}'

    # --- SDKs on it -------------------------------------------------------------------------------------------------

    def suite_file(self, **changes: Any) -> dict[str, Any]:
        """A suite file as `platform add` would write it now, of a platform whose law asks for no consent."""
        who = {"url": self.url, "platform": "acme", "control_group": "east", "profile": "EU", "kid": "acme-1"}
        return {**who, **self.suite_json(), **changes}

    def connect(self, state: str = "state", suite: dict[str, Any] | None = None, **settings: Any) -> RefundLedger:
        """An SDK whose clock is this ledger's. It has 20 s for lookups and tags: on a busy machine the usual 300 ms, or
        2 s, are not always enough."""
        settings.setdefault("lookup_budget_seconds", 20)
        settings.setdefault("subject_budget_seconds", 20)
        settings.setdefault("budget_seconds", 0.5)
        settings.setdefault("now", lambda: self.now)
        return RefundLedger(
            parse_suite(suite or self.suite_file()),
            Ed25519PrivateKey.generate(),
            state_dir=self.folder / state,
            order_key=b"o" * 32,
            **settings,
        )

    def forge(self, path: str, change: Callable[[bytes], bytes]) -> None:
        """From now on answer `path` with a changed body."""
        self.replace[path] = lambda answer: (answer[0], answer[1], change(answer[2]))

    def forge_latest(self, **changes: Any) -> None:
        """From now on answer for the newest snapshot with these members changed."""
        self.forge("/v1/snapshots/latest", lambda body: json.dumps({**json.loads(body), **changes}).encode())

    def path(self, snapshot: PublishedSnapshot, what: str) -> str:
        """The path of a part of a snapshot."""
        return f"/v1/snapshots/{b64url(snapshot.manifest.version)}/{what}"

    def asked(self) -> list[str]:
        """The paths asked for since the last call."""
        paths, self.requests = self.requests, []
        return paths


@contextmanager
def small_ledger(folder: Path) -> Iterator[SmallLedger]:
    """A SmallLedger that is being served."""
    ledger = SmallLedger(folder)
    with answering(lambda method, path, body: ledger.respond(method, path, body)) as url:
        ledger.url = url
        yield ledger


def canonical_text(value: Any) -> str:
    """Canonical JSON as text."""
    return canonical_json(value).decode()
