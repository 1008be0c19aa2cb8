"""A ledger of a later version, as an SDK of this version meets it: everything that may be added is added at once.

It signs, logs, seals and answers for real, with the keys of `SmallLedger`; only what it says is of a later version.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ledger.protocol.encoding import b64url, canonical_json, day_floor, format_time, hour_floor
from ledger.protocol.tags import extract
from ledger.rules.policy.shipped import shipped_policy
from ledger.snapshots import sealed
from ledger.snapshots.manifest import Manifest
from ledger.tlog import merkle
from ledger.tlog.entries import commitment, event_leaf
from ledger.tlog.proof import TlogProof, format_proof
from tests.client.small_ledger import Answer, SmallLedger
from tests.faulty import answering

NEW_CONDUCT = "item_swap_claim"
NEW_CONDUCT_BYTE = 200
NEW_PROFILE = "BR"
REPORT = "rp_Newer23456"
CASE = "ap_Newer23456"
FURTHER: dict[str, Any] = {"x_added": {"later": [1, "two", None]}}
"""Members that no object of this version has."""

_EVENT = Struct(">8s4sBBBBHI")


def further(value: dict[str, Any]) -> dict[str, Any]:
    """`value` with a further member in every JSON object of it."""
    return {**{name: _further(member) for name, member in value.items()}, **FURTHER}


def _further(value: Any) -> Any:
    if isinstance(value, dict):
        return further(value)
    return [_further(item) for item in value] if isinstance(value, list) else value


@dataclass
class NewerLedger(SmallLedger):
    """See the module. `lookup` is merged into the answers to lookups; `sealed_form` is the format of sealed entries:
    2 adds an event of a conduct that this version does not know to each identifier."""

    lookup: dict[str, Any] = field(default_factory=dict)
    sealed_form: int = 1
    later_policy: bool = False
    platform_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    reported: list[dict[str, Any]] = field(default_factory=list)
    entries: dict[int, tuple[dict[str, Any], bytes]] = field(default_factory=dict)

    # --- the log --------------------------------------------------------------------------------------------------

    def append_leaf(self, sort: str, body: Mapping[str, Any]) -> int:
        """A governance entry of any sort, with further members; its index."""
        hour = format_time(self.now)[:14] + "00:00Z"
        leaf = {"index": len(self.leaves), "sort": sort, "hour": hour, "body": dict(body), **FURTHER}
        self.leaves.append(canonical_json(leaf))
        return len(self.leaves) - 1

    def append(self, sort: str, body: Mapping[str, Any]) -> int:
        # The body of a snapshot is signed as it is; every other one has further members.
        return self.append_leaf(str(sort), body if sort == "snapshot" else further(dict(body)))

    def append_event(self, entry: dict[str, Any]) -> int:
        """An event's entry; its index."""
        salt = secrets.token_bytes(32)
        index = len(self.leaves)
        self.leaves.append(event_leaf(index, self.now, commitment(salt, canonical_json(entry))))
        self.entries[index] = entry, salt
        return index

    def receipt(self, index: int) -> str:
        """The receipt of an event, with a further member in its opening."""
        entry, salt = self.entries[index]
        tiles = merkle.grow(0, {}, [merkle.leaf_hash(leaf) for leaf in self.leaves]).tiles
        hashes = merkle.inclusion_proof(index, len(self.leaves), lambda level, place: tiles[level, place])
        hour = format_time(self.now)[:14] + "00:00Z"
        opening = canonical_json({"entry": entry, "hour": hour, "salt": b64url(salt), **FURTHER})
        return format_proof(TlogProof(index, tuple(hashes), self.note(), opening))

    # --- snapshots --------------------------------------------------------------------------------------------------

    def policy(self) -> tuple[str, int]:
        text, policy = shipped_policy()
        if not self.later_policy:
            return text, policy.version
        clock = f'[appeals.clocks.{NEW_PROFILE}]\nworking_days = 10\ntime_zone = "America/Sao_Paulo"\n'
        text = text.replace("[severity]\n", f"[severity]\n{NEW_CONDUCT} = 3\n")
        text = text.replace(f"version = {policy.version}\n", f"version = {policy.version + 7}\n")
        return f"{text}\n{clock}\n[courts]\nfee_minor = 3\n", policy.version + 7

    def manifest_json(self, manifest: Manifest) -> dict[str, Any]:
        return {**super().manifest_json(manifest), **FURTHER}

    def sealed(
        self, element: bytes, kind: str, version: bytes, number: int, events: Sequence[sealed.SealedEvent]
    ) -> list[bytes]:
        if self.sealed_form == 1:
            return super().sealed(element, kind, version, number, events)
        acts = [(secrets.token_bytes(8), secrets.token_bytes(4)) for _ in range(2)]
        today, hour = day_floor(self.now), hour_floor(self.now)
        packed = [_EVENT.pack(act, group, NEW_CONDUCT_BYTE, 0xF0, 8, 3, today - 6, hour - 30) for act, group in acts]
        payload = bytes([self.sealed_form, len(packed), *bytes(6)]) + b"".join(packed)
        payload += bytes(96 - len(payload))
        info = b"refund-ledger entry v1:" + kind.encode() + version + bytes(4) + b"\x01"
        key = hmac.digest(extract(element), info, "sha512")
        cipher = ChaCha20Poly1305(key[16:48])
        return [key[:16] + cipher.encrypt(bytes(12), payload, version + number.to_bytes(4, "big"))]

    # --- HTTP -------------------------------------------------------------------------------------------------------

    def suite_json(self) -> dict[str, Any]:
        value = further(super().suite_json())
        coming = {"epoch": 99, "state": "standing_by", "holders": self.holders(1), "entry_index": None}
        return {**value, "epochs": [*value["epochs"], further(coming)], "policy": self.policy()[1]}

    def suite_file(self, **changes: Any) -> dict[str, Any]:
        return {**super().suite_file(profile=NEW_PROFILE), **changes}

    def clear_lookup(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return further({**super().clear_lookup(asked), **self.lookup})

    def _answer(self, path: str, body: bytes) -> Answer:
        plain, _, _ = path.partition("?")
        if plain.startswith("/v1/texts/"):
            texts = {"item_swapped": f"A text ({plain[-2:]})."}
            return 200, {}, json.dumps({"locale": plain.removeprefix("/v1/texts/"), "reasons": texts}).encode()
        if plain == "/v1/reports" and body:
            return 201, {}, json.dumps(self._report(json.loads(body))).encode()
        if plain == "/v1/reports":
            return 200, {}, json.dumps(further({"data": [self.view(0)], "has_more": False})).encode()
        if plain == f"/v1/reports/{REPORT}":
            return 200, {}, json.dumps(self.view(0)).encode()
        if plain == f"/v1/reports/{REPORT}/receipt":
            return 200, {}, self.receipt(min(self.entries)).encode()
        if plain == "/v1/appeals":
            return 200, {}, json.dumps(further({"data": [self._summary()], "has_more": False})).encode()
        if plain == f"/v1/appeals/{CASE}":
            return 200, {}, json.dumps(self._case()).encode()
        return super()._answer(path, body)

    def _report(self, sent: dict[str, Any]) -> dict[str, Any]:
        entry = {
            "type": "report", "id": REPORT, "platform": "acme", "recorded_at": format_time(self.now),
            "body": sent["body"], "signature": sent["signature"], **FURTHER,
        }  # fmt: skip
        index = self.append_event(entry)
        self.reported.append({**sent["body"], "index": index})
        later = format_time(self.now)
        return further(
            {
                "id": REPORT, "entry_index": index, "status": "embargoed", "effective_from": later, "expires_at": later,
                "receipt_url": f"/v1/reports/{REPORT}/receipt", "order_ref": sent["body"]["order_ref"],
                "body_sha256": b64url(hashlib.sha256(canonical_json(sent["body"])).digest()),
            }
        )  # fmt: skip

    def view(self, number: int) -> dict[str, Any]:
        """A report as `GET /v1/reports/{id}` shows it, with codes of a later version."""
        body, later = self.reported[number], format_time(self.now)
        return further(
            {
                "id": REPORT, "entry_index": body["index"], "status": "embargoed", "conduct": NEW_CONDUCT,
                "order_ref": body["order_ref"], "amount_minor": 1, "currency": "CNY", "outcome": "refund_split",
                "act_ended_at": later, "notice_sent_at": later, "recorded_at": later, "effective_from": later,
                "expires_at": later, "replaces": None, "replaced_by": None, "restitution": None,
                "withdrawal": {"reason": "court_order", "at": later}, "receipt_url": "/x",
                "appeal": {
                    "id": CASE, "state": "mediation", "due_at": later, "outcome": "settled", "conduct": NEW_CONDUCT
                },
            }
        )  # fmt: skip

    def _summary(self) -> dict[str, Any]:
        later = format_time(self.now)
        return {
            "id": CASE, "state": "mediation", "opened_at": later, "due_at": later, "overdue": False,
            "party": "mediator", "report": REPORT, "outcome": "settled", "answer_due_at": None,
        }  # fmt: skip

    def _case(self) -> dict[str, Any]:
        later = format_time(self.now)
        event = {
            "at": later, "action": "mediate", "by": "mediator", "state": "mediation", "text": None, "entry_index": None
        }  # fmt: skip
        decision = {
            "outcome": "settled", "reasons": None, "conduct": NEW_CONDUCT, "decided_at": later, "reopen_until": None
        }  # fmt: skip
        return further(
            {
                **self._summary(), "group": [CASE], "round": 1, "grounds": "identity_theft", "conduct": NEW_CONDUCT,
                "profile": NEW_PROFILE, "extended": False, "question": None, "decision": decision,
                "timeline": [event], "attachments": [], "concession": None, "reopening_request": None,
            }
        )  # fmt: skip


@contextmanager
def newer_ledger(folder: Path) -> Iterator[NewerLedger]:
    """A NewerLedger that is being served. Its log holds an entry of a sort that this version does not know."""
    ledger = NewerLedger(folder)
    ledger.append_leaf("witness_policy", {"quorum": 2, "sha256": b64url(hashlib.sha256(b"policy").digest())})
    with answering(lambda method, path, body: ledger.respond(method, path, body)) as url:
        ledger.url = url
        yield ledger
