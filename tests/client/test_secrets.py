"""Tokens and key files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from ledger.client.identity.keyfiles import (
    MAX_PUBLIC_KEYS,
    load_or_create_order_key,
    load_or_create_public_key,
    load_or_create_signing_key,
    load_public_keys,
    load_signing_key,
    order_key_path,
    order_key_source,
    public_key_path,
)
from ledger.client.identity.tokens import BACKDATE_SECONDS, RENEW_SECONDS, TOKEN_SECONDS, TokenSource
from ledger.errors import ConfigurationError

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_tokens_are_reused_until_shortly_before_they_end() -> None:
    key = Ed25519PrivateKey.generate()
    now = [START]
    source = TokenSource(key, kid="acme-1", platform="acme", service="l.test", now=lambda: now[0], scopes=["b", "a"])
    first = source.token()
    assert jwt.get_unverified_header(first) == {"alg": "EdDSA", "kid": "acme-1", "typ": "JWT"}
    claims = jwt.decode(
        first,
        key.public_key(),
        ["EdDSA"],
        audience="l.test",
        issuer="acme",
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims == {
        "iss": "acme", "aud": "l.test", "scope": "a b",
        "iat": int(START.timestamp()) - BACKDATE_SECONDS,
        "exp": int(START.timestamp()) - BACKDATE_SECONDS + TOKEN_SECONDS,
    }  # fmt: skip
    now[0] = START + timedelta(seconds=TOKEN_SECONDS - BACKDATE_SECONDS - RENEW_SECONDS - 1)
    assert source.token() == first
    now[0] += timedelta(seconds=1)
    second = source.token()
    assert second != first
    now[0] = START - timedelta(days=1)  # the clock was set back: the kept token would be from the future
    assert source.token() not in (first, second)


def test_signing_key_is_made_once_with_mode_0600(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "acme.pem"
    key = load_or_create_signing_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_signing_key(path).private_bytes_raw() == key.private_bytes_raw()
    assert load_or_create_signing_key(path).private_bytes_raw() == key.private_bytes_raw()


def test_unfit_key_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "acme.pem"
    with pytest.raises(ConfigurationError):
        load_signing_key(path)
    load_or_create_signing_key(path)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_signing_key(path)
    path.chmod(0o600)
    path.write_bytes(b"not a key")
    with pytest.raises(ConfigurationError):
        load_signing_key(path)
    other = generate_private_key(SECP256R1())
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ConfigurationError, match="Ed25519"):
        load_signing_key(path)


def test_public_keys_of_a_file(tmp_path: Path) -> None:
    path, keys = tmp_path / "keys.pem", [Ed25519PrivateKey.generate().public_key() for _ in range(MAX_PUBLIC_KEYS + 1)]
    blocks = [key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for key in keys]
    path.write_bytes(b"a comment\n" + b"\n".join(blocks[:2]))
    assert [key.public_bytes_raw() for key in load_public_keys(path)] == [key.public_bytes_raw() for key in keys[:2]]
    other = generate_private_key(SECP256R1()).public_key()
    foreign = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for wrong in (b"", b"".join(blocks), blocks[0][:-20], blocks[0] + foreign, blocks[0].replace(b"MC", b"//")):
        path.write_bytes(wrong)
        with pytest.raises(ConfigurationError, match=r"keys\.pem"):
            load_public_keys(path)
    with pytest.raises(ConfigurationError):
        load_public_keys(tmp_path / "nothing.pem")


def test_a_public_key_is_enrolled_without_its_private_one(tmp_path: Path) -> None:
    private, public = tmp_path / "acme.pem", public_key_path(tmp_path / "acme.pem")
    assert public.name == "acme.public.pem"
    public_key = load_or_create_public_key(private)
    assert load_signing_key(private).public_key() == public_key, "made, because there was none"
    block = public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public.write_bytes(block)
    assert load_or_create_public_key(public) == load_or_create_public_key(private) == public_key
    for wrong in (block + block, b"nothing", block[:50]):
        public.write_bytes(wrong)
        public.chmod(0o600)
        with pytest.raises(ConfigurationError):
            load_or_create_public_key(public)
        assert public.read_bytes() == wrong


def test_services_that_start_together_agree_on_the_order_key(tmp_path: Path) -> None:
    path = order_key_path(tmp_path / "acme-2.pem", "acme")
    assert path.name == "acme.order.key"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: load_or_create_order_key(path), range(16)))
    assert len(keys) == 1
    assert len(keys.pop()) == 32
    assert [path.name for path in tmp_path.iterdir()] == ["acme.order.key"], "no temporary file is left"
    path.write_text("short")
    with pytest.raises(ConfigurationError):
        load_or_create_order_key(path)


def test_order_key_needs_a_place() -> None:
    assert order_key_source(b"k" * 32, None, "acme")() == b"k" * 32
    with pytest.raises(ConfigurationError):
        order_key_source(None, Ed25519PrivateKey.generate(), "acme")
