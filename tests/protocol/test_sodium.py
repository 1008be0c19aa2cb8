"""The libsodium binding: nothing invalid goes through, the group laws hold, and no file is left behind."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha512
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import (
    ConfigurationError,
    IdentityPoint,
    InvalidCiphertext,
    InvalidInput,
    InvalidPoint,
    InvalidScalar,
)
from ledger.protocol import sodium
from tests.counts import trials

P = 2**255 - 19
L = sodium.GROUP_ORDER

# RFC 9496 appendix A.1: the generator times 1, 2 and 15.
GENERATOR_MULTIPLES = {
    1: "e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76",
    2: "6a493210f7499cd17fecb510ae0cea23a110e8d5b901f8acadd3095c73a3b919",
    15: "e0c418f7c8d9c4cdd7395b93ea124f3ad99021bb681dfc3302a9d99a2e53e64e",
}
# RFC 9496 appendix A.2: encodings to be refused.
BAD_ENCODINGS = {
    "not reduced": "00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "high bit": "f3ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "p": "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "negative": "0100000000000000000000000000000000000000000000000000000000000000",
    "negative, large": "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "not a square": "26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371",
    "negative xy": "3eb858e78f5a7254d8c9731174a94f76755fd3941c0ac93735c07ba14579630e",
    "s = -1": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}
# RFC 9496 appendix A.3: SHA-512 of this label, mapped.
LABEL = b"Ristretto is traditionally a short shot of espresso coffee"
LABEL_POINT = "3066f82a1a747d45120d1740f14358531a8f04bbffe6a819f86dfe50f44a0a46"


def scalar(value: int) -> bytes:
    return (value % L).to_bytes(32, "little")


def point(value: int) -> bytes:
    return sodium.point_from_hash(sha512(value.to_bytes(8, "big")).digest())


scalars = st.integers(1, L - 1).map(scalar)
points = st.integers(0, 10**6).map(point)
bad_points = [pytest.param(bytes.fromhex(h), id=name) for name, h in BAD_ENCODINGS.items()] + [
    pytest.param(b"", id="empty"),
    pytest.param(point(1)[:31], id="truncated"),
    pytest.param(point(1) + b"\x00", id="over-long"),
]
bad_scalars = [
    pytest.param(b"", id="empty"),
    pytest.param(bytes(32), id="zero"),
    pytest.param(L.to_bytes(32, "little"), id="order"),
    pytest.param((L + 1).to_bytes(32, "little"), id="order + 1"),
    pytest.param(b"\xff" * 32, id="all ones"),
    pytest.param((1 << 255 | 1).to_bytes(32, "little"), id="high bit"),
    pytest.param(scalar(7)[:31], id="truncated"),
    pytest.param(scalar(7) + b"\x00", id="over-long"),
]


def test_generator_multiples_of_rfc_9496() -> None:
    assert {n: sodium.scalarmult_base(scalar(n)).hex() for n in GENERATOR_MULTIPLES} == GENERATOR_MULTIPLES


def test_hash_to_point_of_rfc_9496() -> None:
    assert sodium.point_from_hash(sha512(LABEL).digest()).hex() == LABEL_POINT


@pytest.mark.parametrize("bad", bad_points)
def test_a_malformed_point_is_refused_everywhere(bad: bytes) -> None:
    good = point(1)
    assert not sodium.is_valid_point(bad)
    for call in (
        lambda: sodium.check_point(bad),
        lambda: sodium.scalarmult(scalar(3), bad),
        lambda: sodium.scalarmult_many(scalar(3), [good, bad]),
        lambda: sodium.sum_of_products([1, 2], [good, bad]),
        lambda: sodium.add(good, bad),
        lambda: sodium.add(bad, good),
        lambda: sodium.sub(good, bad),
        lambda: sodium.sub(bad, good),
    ):
        with pytest.raises(InvalidPoint):
            call()


def test_the_identity_is_refused_by_name() -> None:
    good, identity = point(1), sodium.IDENTITY
    assert not sodium.is_valid_point(identity)
    for call in (
        lambda: sodium.check_point(identity),
        lambda: sodium.scalarmult(scalar(3), identity),
        lambda: sodium.scalarmult_many(scalar(3), [good, identity]),
        lambda: sodium.sum_of_products([1, 2], [good, identity]),
        lambda: sodium.add(good, identity),
        lambda: sodium.sub(identity, good),
    ):
        with pytest.raises(IdentityPoint):
            call()


@pytest.mark.parametrize("bad", bad_scalars)
def test_a_scalar_that_is_not_canonical_is_refused_everywhere(bad: bytes) -> None:
    good = scalar(5)
    assert not sodium.is_canonical_scalar(bad)
    for call in (
        lambda: sodium.check_scalar(bad),
        lambda: sodium.scalarmult(bad, point(1)),
        lambda: sodium.scalarmult_many(bad, []),
        lambda: sodium.scalarmult_base(bad),
        lambda: sodium.scalar_invert(bad),
        lambda: sodium.scalar_sub(bad, good),
        lambda: sodium.scalar_mul(good, bad),
    ):
        with pytest.raises(InvalidScalar):
            call()


@pytest.mark.parametrize("value", [1, 2, L - 1, 2**252])
def test_canonical_scalars_up_to_the_order_are_accepted(value: int) -> None:
    assert sodium.is_canonical_scalar(value.to_bytes(32, "little"))


@pytest.mark.parametrize("length", [0, 32, 63, 65])
def test_uniform_values_have_64_bytes(length: int) -> None:
    with pytest.raises(InvalidInput):
        sodium.point_from_hash(bytes(length))
    with pytest.raises(InvalidInput):
        sodium.scalar_reduce(bytes(length))


@pytest.mark.parametrize("foreign", ["a" * 32, bytearray(b"a" * 32), [97] * 32, memoryview(b"a" * 32)])
def test_nothing_but_bytes_reaches_the_library(foreign: Any) -> None:
    for call in (sodium.is_canonical_scalar, sodium.scalarmult_base):
        with pytest.raises(ctypes.ArgumentError):
            call(foreign)
    with pytest.raises(TypeError):
        sodium.is_valid_point(foreign)
    with pytest.raises(TypeError):
        sodium.is_ed25519_public_key(foreign)
    with pytest.raises(TypeError):
        sodium.scalarmult_many(scalar(3), [foreign])
    with pytest.raises(TypeError):
        sodium.sum_of_products([3], [foreign])


@given(st.binary(min_size=64, max_size=64), scalars, scalars)
@settings(deadline=None, max_examples=trials(30, 50))
def test_scalar_arithmetic_is_that_of_the_integers_modulo_the_order(uniform: bytes, a: bytes, b: bytes) -> None:
    x, y = int.from_bytes(a, "little"), int.from_bytes(b, "little")
    assert sodium.scalar_reduce(uniform) == scalar(int.from_bytes(uniform, "little"))
    assert sodium.scalar_sub(a, b) == scalar(x - y)
    assert sodium.scalar_mul(a, b) == scalar(x * y)
    assert sodium.scalar_invert(a) == scalar(pow(x, -1, L))


@given(scalars, scalars, points, points)
@settings(deadline=None, max_examples=trials(30, 50))
def test_group_laws(a: bytes, b: bytes, p: bytes, q: bytes) -> None:
    assert sodium.is_valid_point(p)
    assert sodium.scalarmult(a, sodium.scalarmult(b, p)) == sodium.scalarmult(sodium.scalar_mul(a, b), p)
    assert sodium.scalarmult(sodium.scalar_invert(a), sodium.scalarmult(a, p)) == p
    if p != q:
        assert sodium.sub(sodium.add(p, q), q) == p
        assert sodium.scalarmult_many(a, [p, q]) == [sodium.scalarmult(a, p), sodium.scalarmult(a, q)]
    x = int.from_bytes(a, "little")
    expected = sodium.add(sodium.scalarmult(a, p), sodium.scalarmult(b, q))
    if expected != sodium.IDENTITY:
        assert sodium.sum_of_products([x + 5 * L, int.from_bytes(b, "little")], [p, q]) == expected


def test_a_point_less_itself_is_the_identity() -> None:
    assert sodium.sub(point(4), point(4)) == sodium.IDENTITY


def test_sum_of_products_refuses_a_sum_or_product_that_is_the_identity() -> None:
    p = point(4)
    with pytest.raises(IdentityPoint):
        sodium.sum_of_products([3, L - 3], [p, p])
    with pytest.raises(IdentityPoint):
        sodium.sum_of_products([L], [p])
    with pytest.raises(IdentityPoint):
        sodium.sum_of_products([], [])


@pytest.mark.parametrize("count", [1, 3])
def test_sum_of_products_needs_one_coefficient_for_each_point(count: int) -> None:
    with pytest.raises(InvalidInput):
        sodium.sum_of_products(range(1, count + 1), [point(1), point(2)])


def test_threads_do_not_mix_results() -> None:
    batches = [[point(100 * i + j) for j in range(20)] for i in range(4)]
    expected = [sodium.scalarmult_many(scalar(i + 2), batch) for i, batch in enumerate(batches)]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda i: sodium.scalarmult_many(scalar(i + 2), batches[i]), range(4)))
    assert got == expected


def run_python(code: str, temporary: Path) -> str:
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


USE = "from ledger.protocol import sodium; print(sodium.scalarmult_base((2).to_bytes(32, 'little')).hex())"


def test_loading_leaves_no_file_and_never_imports_the_wheel(tmp_path: Path) -> None:
    out = run_python(f"{USE}; import sys; print([m for m in sys.modules if 'rbcl' in m])", tmp_path)
    assert out.split() == [GENERATOR_MULTIPLES[2], "[]"]
    assert list(tmp_path.iterdir()) == []


def test_without_memory_files_the_temporary_one_is_deleted_at_once(tmp_path: Path) -> None:
    out = run_python(f"import os; del os.memfd_create; {USE}", tmp_path)
    assert out.strip() == GENERATOR_MULTIPLES[2]
    assert list(tmp_path.iterdir()) == []


def test_importing_the_binding_loads_nothing(tmp_path: Path) -> None:
    out = run_python("from ledger.protocol import sodium; print(sodium._lib.cache_info().currsize)", tmp_path)
    assert out.strip() == "0"


def test_a_missing_or_foreign_wheel_is_a_configuration_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "rbcl", raising=False)
    with pytest.raises(ConfigurationError):
        sodium._lib.__wrapped__()
    (tmp_path / "rbcl").mkdir()
    (tmp_path / "rbcl" / "__init__.py").touch()
    (tmp_path / "rbcl" / "_sodium.py").write_text("sodium = None\n")
    with pytest.raises(ConfigurationError):
        sodium._lib.__wrapped__()


# draft-irtf-cfrg-xchacha-03 appendix A.3.1
AEAD_KEY = bytes(range(0x80, 0xA0))
AEAD_NONCE = bytes(range(0x40, 0x58))
AEAD_ASSOCIATED = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
AEAD_PLAINTEXT = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    b"sunscreen would be it."
)
AEAD_CIPHERTEXT = bytes.fromhex(
    "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39"
    "ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
    "21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49"
)


def test_xchacha20_poly1305_against_its_draft() -> None:
    assert sodium.aead_encrypt(AEAD_KEY, AEAD_NONCE, AEAD_PLAINTEXT, AEAD_ASSOCIATED) == AEAD_CIPHERTEXT
    assert sodium.aead_decrypt(AEAD_KEY, AEAD_NONCE, AEAD_CIPHERTEXT, AEAD_ASSOCIATED) == AEAD_PLAINTEXT
    empty = sodium.aead_encrypt(AEAD_KEY, AEAD_NONCE, b"")
    assert len(empty) == sodium.AEAD_TAG_BYTES
    assert sodium.aead_decrypt(AEAD_KEY, AEAD_NONCE, empty) == b""


def test_altered_ciphertexts_do_not_open() -> None:
    for place in range(len(AEAD_CIPHERTEXT)):
        altered = AEAD_CIPHERTEXT[:place] + bytes([AEAD_CIPHERTEXT[place] ^ 1]) + AEAD_CIPHERTEXT[place + 1 :]
        with pytest.raises(InvalidCiphertext):
            sodium.aead_decrypt(AEAD_KEY, AEAD_NONCE, altered, AEAD_ASSOCIATED)
    for key, nonce, ciphertext, associated in (
        (AEAD_KEY[::-1], AEAD_NONCE, AEAD_CIPHERTEXT, AEAD_ASSOCIATED),
        (AEAD_KEY, AEAD_NONCE[::-1], AEAD_CIPHERTEXT, AEAD_ASSOCIATED),
        (AEAD_KEY, AEAD_NONCE, AEAD_CIPHERTEXT, b""),
        (AEAD_KEY, AEAD_NONCE, AEAD_CIPHERTEXT[:-1], AEAD_ASSOCIATED),
        (AEAD_KEY, AEAD_NONCE, AEAD_CIPHERTEXT[:15], AEAD_ASSOCIATED),
        (AEAD_KEY, AEAD_NONCE, b"", AEAD_ASSOCIATED),
    ):
        with pytest.raises(InvalidCiphertext):
            sodium.aead_decrypt(key, nonce, ciphertext, associated)


@pytest.mark.parametrize(("key", "nonce"), [(AEAD_KEY[1:], AEAD_NONCE), (AEAD_KEY, AEAD_NONCE + b"x"), (b"", b"")])
def test_cipher_keys_and_nonces_of_other_lengths(key: bytes, nonce: bytes) -> None:
    with pytest.raises(InvalidInput):
        sodium.aead_encrypt(key, nonce, b"text")
    with pytest.raises(InvalidInput):
        sodium.aead_decrypt(key, nonce, AEAD_CIPHERTEXT)


@settings(max_examples=30)
@given(st.integers(1, L - 1), st.integers(1, L - 1))
def test_scalars_are_added(left: int, right: int) -> None:
    assert sodium.scalar_add(scalar(left), scalar(right)) == scalar(left + right)
    assert sodium.scalar_add(scalar(left), scalar(-left)) == bytes(32)
    with pytest.raises(InvalidScalar):
        sodium.scalar_add(scalar(left), bytes(32))
