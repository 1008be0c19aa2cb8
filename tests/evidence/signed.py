"""C2PA manifests of our own: certificates made for the test, signed by the library that is inspected with."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

import c2pa  # type: ignore[import-untyped]
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.evidence.files import SOURCES


class Keys(TypedDict):
    """What it takes to sign, in PEM."""

    chain: bytes
    key: bytes


def certificate() -> Keys:
    """A leaf that may sign documents, below a root that nobody trusts."""
    now = datetime.now(UTC)
    start, end = now - timedelta(days=2), now + timedelta(days=30)
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_name = _name("Test root")
    root = (
        _builder(root_name, root_name, root_key, start, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    leaf = (
        _builder(_name("Test generator"), root_name, key, start, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()),
            critical=False,
        )
        .sign(root_key, hashes.SHA256())
    )
    chain = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (leaf, root))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {"chain": chain, "key": private}


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests"), x509.NameAttribute(NameOID.COMMON_NAME, common)]
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


def sign(
    data: bytes,
    media_type: str,
    actions: list[dict[str, Any]],
    *,
    chain: bytes,
    key: bytes,
    remote_url: str | None = None,
    parent: bytes | None = None,
    component: bytes | None = None,
) -> bytes:
    """`data` with a manifest of these actions."""
    info = c2pa.C2paSignerInfo(b"es256", chain, key, None)
    manifest = {
        "claim_generator_info": [{"name": "Test generator"}],
        "title": "picture",
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}] if actions else [],
    }
    out = io.BytesIO()
    with c2pa.Signer.from_info(info) as signer, c2pa.Builder(json.dumps(manifest)) as builder:
        if remote_url is not None:
            builder.set_no_embed()
            builder.set_remote_url(remote_url)
        for relationship, ingredient in (("parentOf", parent), ("componentOf", component)):
            if ingredient is not None:
                about = json.dumps({"title": relationship, "relationship": relationship, "label": relationship})
                builder.add_ingredient(about, media_type, io.BytesIO(ingredient))
        builder.sign(signer, media_type, io.BytesIO(data), out)
    return out.getvalue()
