"""Sealed entries a second time, from RFC 5869 and RFC 8439 step by step: what the implementation is measured against.

`cryptography`'s HKDF class takes the place of our own, the AEAD is put together from the bare cipher and Poly1305, and
payloads are written with `int.to_bytes`, so that no constant or helper of `ledger.snapshots.sealed` is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.poly1305 import Poly1305

from ledger.snapshots.sealed import SealedEvent

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "vectors" / "sealed.json").read_text("utf-8")
)

CONDUCTS = [
    *("ai_fabricated_image", "edited_image", "tampered_video", "false_non_receipt", "empty_parcel", "switched_return"),
    *("fake_return_tracking", "wardrobing", "friendly_chargeback", "account_farm", "impersonated"),
]
"""In the order of their bytes, which begin at 1."""


def hkdf(secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA512(), length, salt=None, info=info).derive(secret)


def keystream(key: bytes, counter: int, nonce: bytes, length: int) -> bytes:
    """ChaCha20 of RFC 8439 section 2.4."""
    cipher = Cipher(ChaCha20(key, counter.to_bytes(4, "little") + nonce), mode=None)
    return cipher.encryptor().update(bytes(length))


def aead(key: bytes, plaintext: bytes, bound: bytes) -> bytes:
    """AEAD_CHACHA20_POLY1305 of RFC 8439 section 2.8 with a nonce of zeros: ciphertext, then tag."""
    stream = keystream(key, 1, bytes(12), len(plaintext))
    sealed = bytes(value ^ two for value, two in zip(plaintext, stream, strict=True))
    authenticated = b"".join(
        [
            *(bound, bytes(-len(bound) % 16), sealed, bytes(-len(sealed) % 16)),
            *(len(bound).to_bytes(8, "little"), len(sealed).to_bytes(8, "little")),
        ]
    )
    return sealed + Poly1305.generate_tag(keystream(key, 0, bytes(12), 32), authenticated)


def event_bytes(event: SealedEvent) -> bytes:
    """In format 2 (weight in eighths, severity) if the event has a severity, else in format 1 (twentieths, zero)."""
    unit, last = (2, 0) if event.severity is None else (5, event.severity)
    conduct = event.conduct.removeprefix("unknown:")
    number = int(conduct) if conduct.isdigit() else CONDUCTS.index(conduct) + 1
    flags = sum(
        2**bit
        for bit, name in enumerate(("disputed", "restituted", "has_statement", "expires_next_day"))
        if getattr(event, name)
    )
    numbers = bytes([number, flags, event.weight // unit, last])
    return (
        event.act + event.group + numbers + event.act_day.to_bytes(2, "big") + event.effective_hour.to_bytes(4, "big")
    )


def payloads(events: Sequence[SealedEvent]) -> list[bytes]:
    """The 96-byte payloads of these events, which are of one format, ordered by act, group and the rest."""
    forms = {1 if event.severity is None else 2 for event in events}
    texts = sorted(event_bytes(event) for event in events)
    parts = [texts[i : i + 4] for i in range(0, len(texts), 4)]
    last = len(parts) - 1
    return [
        (bytes([*forms, len(part), int(slot < last)]) + bytes(5) + b"".join(part)).ljust(96, b"\0")
        for slot, part in enumerate(parts)
    ]


def entry(element: bytes, kind: str, version: bytes, prefix: int, slot: int, payload: bytes) -> bytes:
    """The 128 bytes that hold any payload at all in one slot of an element."""
    info = b"refund-ledger entry v1:" + kind.encode() + version + slot.to_bytes(4, "big")
    derived = hkdf(element, info, 48)
    return derived[:16] + aead(derived[16:], payload, version + prefix.to_bytes(4, "big"))


def entries(element: bytes, kind: str, version: bytes, prefix: int, events: Sequence[SealedEvent]) -> list[bytes]:
    return [entry(element, kind, version, prefix, slot, payload) for slot, payload in enumerate(payloads(events))]


def bucket_prefix(element: bytes, kind: str, bits: int) -> int:
    """The first bits of the tag, by way of its binary digits."""
    tag = hkdf(element, b"refund-ledger tag v1:" + kind.encode(), 32)
    return int("".join(f"{byte:08b}" for byte in tag)[:bits], 2)


def event_of(fields: Mapping[str, Any]) -> SealedEvent:
    """An event as the published vectors write it: pseudonyms in hexadecimal, the weight in the format's unit."""
    values = dict(fields)
    values["weight"] *= 5 if "severity" in values else 2
    return SealedEvent(act=bytes.fromhex(values.pop("act")), group=bytes.fromhex(values.pop("group")), **values)
