"""C2PA manifests of our own: certificates made for the test, signed by the library that is inspected with."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

import c2pa  # type: ignore[import-untyped]
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ledger.evidence.signals.signers import TrustLists, read_trust_lists
from ledger.protocol.encoding import format_time
from tests.evidence.files import SOURCES


class Keys(TypedDict):
    """What it takes to sign, in PEM."""

    chain: bytes
    key: bytes


@dataclass(frozen=True)
class Authority:
    """A certificate authority of our own."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        """Its certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()


def authority(organisation: str = "Tests", common: str = "Test root") -> Authority:
    """A root that no list has, whatever its name is."""
    now, key = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
    name = _name(common, organisation)
    builder = (
        _builder(name, name, key, now - timedelta(days=400), now + timedelta(days=400))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(name, key, builder)


def certificate(
    organisation: str = "Tests",
    common: str = "Test generator",
    issuer: Authority | None = None,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    stamps: bool = False,
) -> Keys:
    """A leaf that may sign documents, or make time stamps, below a root (one of its own if none is given)."""
    now, root = datetime.now(UTC), issuer or authority()
    key = ec.generate_private_key(ec.SECP256R1())
    starts, ends = start or now - timedelta(days=2), end or now + timedelta(days=30)
    leaf = (
        _builder(_name(common, organisation), root.name, key, starts, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_STAMPS if stamps else _SIGNS]), critical=stamps)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()), critical=False)
        .sign(root.key, hashes.SHA256())
    )
    chain = b"".join(item.public_bytes(serialization.Encoding.PEM) for item in (leaf, root.certificate))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {"chain": chain, "key": private}


_SIGNS, _STAMPS = ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.TIME_STAMPING


def trust_lists(
    folder: Path,
    official: Sequence[Authority] = (),
    interim: Sequence[Authority] = (),
    *,
    allowed: str = "",
    stamps: Sequence[Authority] = (),
    ends_at: datetime | None = None,
) -> TrustLists:
    """Lists of our own in `folder`, in the form of the shipped ones: with these authorities, and an end of the interim
    list that is next if none is given."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "official_signers": "".join(item.pem for item in official) or authority(common="Nobody").pem,
        "official_time_stamps": "".join(stamp.pem for stamp in stamps) or authority(common="Nobody").pem,
        "interim_anchors": "".join(item.pem for item in interim) or authority(common="Nobody").pem,
        "interim_allowed": allowed or authority(common="Nobody").pem,
    }
    for name, text in contents.items():
        (folder / f"{name}.crt").write_text(text, encoding="ascii")
    said = {name: {"file": f"{name}.crt"} for name in contents}
    ends = format_time(ends_at or datetime.now(UTC) + timedelta(days=10))
    (folder / "lists.json").write_text(json.dumps({**said, "state": "2026-01-01", "interim_ends_at": ends}), "utf-8")
    return read_trust_lists(folder)


def _name(common: str, organisation: str = "Tests") -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not sign,
        crl_sign=not sign,
        encipher_only=False,
        decipher_only=False,
    )


def created(source: str, agent: str = "Test model") -> dict[str, Any]:
    """The action by which a picture began."""
    return {"action": "c2pa.created", "digitalSourceType": SOURCES + source, "softwareAgent": {"name": agent}}


def using(action: str, relationship: str) -> dict[str, Any]:
    """An action on the ingredient of that relationship."""
    return {"action": action, "parameters": {"ingredientIds": [relationship]}}


@cache
def _without_thumbnail() -> Any:
    settings = {"verify": {"verify_after_sign": False}, "builder": {"thumbnail": {"enabled": False}}}
    return c2pa.Context(c2pa.Settings.from_dict(settings))


def sign(
    data: bytes,
    media_type: str,
    actions: list[dict[str, Any]],
    *,
    chain: bytes,
    key: bytes,
    remote_url: str | None = None,
    stamped_by: str | None = None,
    parent: bytes | None = None,
    component: bytes | None = None,
    assertions: Sequence[tuple[str, dict[str, Any]]] = (),
    thumbnail: bool = False,
) -> bytes:
    """`data` with a manifest of these actions, and other assertions as (label, data); `stamped_by` is the
    address of an authority for time stamps. With `thumbnail` the library adds one to the manifest and reads the result
    again, which takes thirty times as long."""
    info = c2pa.C2paSignerInfo(b"es256", chain, key, stamped_by.encode() if stamped_by else None)
    manifest = {
        "claim_generator_info": [{"name": "Test generator"}],
        "title": "picture",
        "assertions": [
            *([{"label": "c2pa.actions.v2", "data": {"actions": actions}}] if actions else []),
            *({"label": label, "data": content} for label, content in assertions),
        ],
    }
    out = io.BytesIO()
    context = None if thumbnail else _without_thumbnail()
    with c2pa.Signer.from_info(info) as signer, c2pa.Builder(json.dumps(manifest), context=context) as builder:
        if remote_url is not None:
            builder.set_no_embed()
            builder.set_remote_url(remote_url)
        for relationship, ingredient in (("parentOf", parent), ("componentOf", component)):
            if ingredient is not None:
                about = json.dumps({"title": relationship, "relationship": relationship, "label": relationship})
                builder.add_ingredient(about, media_type, io.BytesIO(ingredient))
        builder.sign(signer, media_type, io.BytesIO(data), out)
    return out.getvalue()
