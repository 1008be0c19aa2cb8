"""Checked calls of libsodium's ristretto255 group and of its XChaCha20-Poly1305. All inputs and results are bytes, and
every input is checked.

The library comes inside the wheel `rbcl` (libsodium 1.0.18), as one hexadecimal literal in a module. Importing that
wheel leaves a temporary file behind on every start, so its source is only read: the shared object is loaded from
memory and no file stays. Loading takes about 20 ms and happens at the first call, not at import.

Inputs are checked here because libsodium's functions trust the lengths of their arguments, its addition yields the
identity for an invalid point, and its multiplication takes scalars that are not reduced. Version 1.0.18 ignores bit 255
of a point, so that each element has two spellings, and the identity a second one that passes its check for validity. So
every point is compared with the rules of RFC 9496 here, before any call: one that is not in its canonical encoding, and
the identity in every spelling, are always an error. Functions that touch secret scalars run in constant time
(libsodium).

Encodings: RFC 9496 section 4.3 for points (32 bytes), 32 bytes little-endian for scalars. The identity is a valid
result of `add` and `sub` only; no function takes or gives it otherwise.
"""

from __future__ import annotations

import binascii
import ctypes
import functools
import importlib.util
import mmap
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ledger.errors import (
    ConfigurationError,
    IdentityPoint,
    InvalidCiphertext,
    InvalidInput,
    InvalidPoint,
    InvalidScalar,
)

POINT_BYTES = 32
SCALAR_BYTES = 32
UNIFORM_BYTES = 64
AEAD_KEY_BYTES = 32
AEAD_NONCE_BYTES = 24
AEAD_TAG_BYTES = 16
"""How much longer a ciphertext of XChaCha20-Poly1305 is than its plaintext."""
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
"""The prime order of ristretto255 (RFC 9496 section 4)."""
IDENTITY = bytes(POINT_BYTES)
FIELD_PRIME = 2**255 - 19
"""The prime p of the field whose elements the encodings are (RFC 9496 section 4.1)."""

_LOW_255_BITS = (1 << 255) - 1
_ORDER_8_Y = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER_Y = frozenset({0, 1, FIELD_PRIME - 1, _ORDER_8_Y, FIELD_PRIME - _ORDER_8_Y})
"""y of the eight Edwards points whose order divides 8: both signs of x count."""

_ORDER_BYTES = GROUP_ORDER.to_bytes(SCALAR_BYTES, "little")
_MINUS_ONE = (GROUP_ORDER - 1).to_bytes(SCALAR_BYTES, "little")
_LITERAL_START = b"bytes.fromhex('"
_LITERAL_END = b"'"

# Each function with its number of pointer arguments; all return a C int.
_SIGNATURES = {
    "crypto_core_ristretto255_is_valid_point": 1,
    "crypto_core_ristretto255_from_hash": 2,
    "crypto_core_ristretto255_add": 3,
    "crypto_core_ristretto255_sub": 3,
    "crypto_core_ristretto255_scalar_reduce": 2,
    "crypto_core_ristretto255_scalar_invert": 2,
    "crypto_core_ristretto255_scalar_add": 3,
    "crypto_core_ristretto255_scalar_sub": 3,
    "crypto_core_ristretto255_scalar_mul": 3,
    "crypto_scalarmult_ed25519_noclamp": 3,
    "crypto_scalarmult_ristretto255": 3,
    "crypto_scalarmult_ristretto255_base": 2,
}


def is_canonical_encoding(point: bytes) -> bool:
    """True if `point` is 32 bytes that encode a non-negative number below p, as a canonical encoding does.

    The first step of Decode (RFC 9496 section 4.3.1): bit 255 is clear, the number is reduced and it is even. It is not
    checked whether an element has this encoding; the identity passes. Raises TypeError for anything but bytes.
    """
    if not isinstance(point, bytes):
        raise TypeError("A group element is given as bytes.")
    return (
        len(point) == POINT_BYTES
        and not point[0] & 1
        and (point[31] < 0x7F or int.from_bytes(point, "little") < FIELD_PRIME)
    )


def is_identity(point: bytes) -> bool:
    """True if 32 bytes are the identity in any spelling: zero modulo p, with or without regard to bit 255."""
    if len(point) != POINT_BYTES:
        return False
    number = int.from_bytes(point, "little")
    return number % FIELD_PRIME == 0 or number & _LOW_255_BITS in (0, FIELD_PRIME)


def is_valid_point(point: bytes) -> bool:
    """True if `point` is the canonical encoding of an element other than the identity."""
    return (
        is_canonical_encoding(point)
        and point != IDENTITY
        and _lib().crypto_core_ristretto255_is_valid_point(point) == 1
    )


def check_point(point: bytes) -> None:
    """Check a point. Raises InvalidPoint unless `is_valid_point`; IdentityPoint (an InvalidPoint) for
    any spelling of the identity."""
    if len(point) != POINT_BYTES:
        raise InvalidPoint(f"A group element must have {POINT_BYTES} bytes.")
    if is_identity(point):
        raise IdentityPoint("The identity of the group is not an acceptable element.")
    if not is_valid_point(point):
        raise InvalidPoint("A group element is not a canonical ristretto255 encoding.")


def is_ed25519_public_key(key: bytes) -> bool:
    """True if `key` is the canonical encoding of an Edwards point of prime order, as every Ed25519 key of RFC 8032 is.

    False for another length, for y >= p, for a point that is not on the curve or whose x = 0 has the sign bit set
    (RFC 8032 section 5.1.3), for the eight points of small order, and for points with a component of small order.
    Raises TypeError for anything but bytes.
    """
    if not isinstance(key, bytes):
        raise TypeError("A public key is given as bytes.")
    if len(key) != POINT_BYTES:
        return False
    y = int.from_bytes(key, "little") & _LOW_255_BITS
    if y >= FIELD_PRIME or y in _SMALL_ORDER_Y:
        return False
    # libsodium's own test for the subgroup lets a component of order 2 pass (its multiplication applies the same test).
    # (order - 1) x key is -key exactly if the order of the key divides the group's.
    out = _buffer()
    if _lib().crypto_scalarmult_ed25519_noclamp(out, _MINUS_ONE, key) != 0:
        return False
    return out.raw == key[:31] + bytes([key[31] ^ 0x80])


def canonical_spelling(point: bytes) -> bytes | None:
    """Return the canonical encoding of the element that libsodium 1.0.18 decodes `point` to, None for the identity and
    for no element.

    Use it only for points that were recorded before encodings were checked; `check_point` refuses new ones.
    """
    if len(point) != POINT_BYTES:
        return None
    spelled = point[:31] + bytes([point[31] & 0x7F])
    return spelled if is_valid_point(spelled) else None


def is_canonical_scalar(scalar: bytes) -> bool:
    """True if `scalar` is 32 bytes little-endian, not zero and below the group order. Runs in constant time."""
    if len(scalar) != SCALAR_BYTES:
        return False
    lib = _lib()
    return bool(
        lib.sodium_compare(scalar, _ORDER_BYTES, SCALAR_BYTES) == -1 and lib.sodium_is_zero(scalar, SCALAR_BYTES) == 0
    )


def check_scalar(scalar: bytes) -> None:
    """Check a scalar. Raises InvalidScalar unless `is_canonical_scalar`."""
    if not is_canonical_scalar(scalar):
        raise InvalidScalar(f"A scalar must have {SCALAR_BYTES} bytes, be below the group order and not be zero.")


def point_from_hash(uniform: bytes) -> bytes:
    """Return the element that 64 uniform bytes map to (RFC 9496 section 4.3.4). Raises InvalidInput for another
    length."""
    _check_uniform(uniform)
    out = _buffer()
    _lib().crypto_core_ristretto255_from_hash(out, uniform)
    return out.raw


def scalarmult(scalar: bytes, point: bytes) -> bytes:
    """Return scalar x point. Raises InvalidScalar, InvalidPoint, IdentityPoint."""
    return scalarmult_many(scalar, (point,))[0]


def scalarmult_many(scalar: bytes, points: Iterable[bytes]) -> list[bytes]:
    """Return scalar x point for each point, in order. Raises as `scalarmult`."""
    check_scalar(scalar)
    multiply = _lib().crypto_scalarmult_ristretto255
    out = _buffer()
    products: list[bytes] = []
    for point in points:
        # libsodium itself refuses canonical encodings of no element; a check before would cost a tenth more.
        if not is_canonical_encoding(point) or multiply(out, scalar, point) != 0:
            _refuse_product(point)
        products.append(out.raw)
    return products


def scalarmult_base(scalar: bytes) -> bytes:
    """Return scalar x the group's generator. Raises InvalidScalar."""
    check_scalar(scalar)
    out = _buffer()
    if _lib().crypto_scalarmult_ristretto255_base(out, scalar) != 0:
        raise InvalidScalar("A scalar gave no element.")
    return out.raw


def sum_of_products(coefficients: Iterable[int], points: Sequence[bytes]) -> bytes:
    """Return the sum of coefficient x point over all pairs.

    `coefficients` are non-negative integers of any size, one for each point, reduced modulo the group order here, not
    in constant time: give public values only. Raises InvalidPoint, IdentityPoint (also when a product or the sum is
    the identity) and InvalidInput when the counts differ.
    """
    lib = _lib()
    multiply, plus = lib.crypto_scalarmult_ristretto255, lib.crypto_core_ristretto255_add
    total, product = _buffer(), _buffer()
    order = GROUP_ORDER
    try:
        for coefficient, point in zip(coefficients, points, strict=True):
            scalar = (coefficient % order).to_bytes(SCALAR_BYTES, "little")
            if not is_canonical_encoding(point) or multiply(product, scalar, point) != 0:
                _refuse_product(point)
            plus(total, total, product)
    except ValueError as error:
        raise InvalidInput("There must be as many coefficients as points.") from error
    if total.raw == IDENTITY:
        raise IdentityPoint("A sum of products is the identity of the group.")
    return total.raw


def linear_combinations(columns: Sequence[tuple[Sequence[bytes], Sequence[bytes]]]) -> list[bytes]:
    """Return, row by row, the sum of scalar x point over all columns; a column is (scalars, points), all of one length.
    Secret scalars are multiplied in constant time.

    Raises InvalidScalar, InvalidPoint, IdentityPoint (also when a product or a sum is the identity), and InvalidInput
    for no column or other lengths.
    """
    if not columns or any(len(part) != len(columns[0][0]) for column in columns for part in column):
        raise InvalidInput("There must be as many scalars as points in each column.")
    lib = _lib()
    multiply, plus = lib.crypto_scalarmult_ristretto255, lib.crypto_core_ristretto255_add
    total, product = _buffer(), _buffer()
    sums: list[bytes] = []
    for row in range(len(columns[0][0])):
        for place, (scalars, points) in enumerate(columns):
            scalar, point = scalars[row], points[row]
            check_scalar(scalar)
            if not is_canonical_encoding(point) or multiply(product if place else total, scalar, point) != 0:
                _refuse_product(point)
            if place:
                plus(total, total, product)
        if total.raw == IDENTITY:
            raise IdentityPoint("A sum of products is the identity of the group.")
        sums.append(total.raw)
    return sums


def add(left: bytes, right: bytes) -> bytes:
    """Return left + right. The result may be IDENTITY, which the caller must refuse. Raises InvalidPoint,
    IdentityPoint."""
    return _combine("crypto_core_ristretto255_add", left, right)


def sub(left: bytes, right: bytes) -> bytes:
    """Return left - right. The result may be IDENTITY, which the caller must refuse. Raises InvalidPoint,
    IdentityPoint."""
    return _combine("crypto_core_ristretto255_sub", left, right)


def scalar_reduce(uniform: bytes) -> bytes:
    """Return 64 bytes little-endian modulo the group order, as a scalar; zero with negligible probability.

    Raises InvalidInput for another length.
    """
    _check_uniform(uniform)
    out = _buffer()
    _lib().crypto_core_ristretto255_scalar_reduce(out, uniform)
    return out.raw


def scalar_mul(left: bytes, right: bytes) -> bytes:
    """Return left x right modulo the group order. Raises InvalidScalar."""
    return _scalars("crypto_core_ristretto255_scalar_mul", left, right)


def scalar_add(left: bytes, right: bytes) -> bytes:
    """Return left + right modulo the group order, which may be zero. Raises InvalidScalar."""
    return _scalars("crypto_core_ristretto255_scalar_add", left, right)


def scalars_scaled(factor: bytes, scalars: Iterable[bytes]) -> list[bytes]:
    """Return factor x scalar modulo the group order for each scalar, in order. Raises InvalidScalar."""
    check_scalar(factor)
    multiply = _lib().crypto_core_ristretto255_scalar_mul
    out = _buffer()
    products: list[bytes] = []
    for scalar in scalars:
        check_scalar(scalar)
        multiply(out, factor, scalar)
        products.append(out.raw)
    return products


def scalar_sub(left: bytes, right: bytes) -> bytes:
    """Return left - right modulo the group order, which may be zero. Raises InvalidScalar."""
    return _scalars("crypto_core_ristretto255_scalar_sub", left, right)


def scalar_invert(scalar: bytes) -> bytes:
    """Return 1 / scalar modulo the group order. Raises InvalidScalar."""
    check_scalar(scalar)
    out = _buffer()
    if _lib().crypto_core_ristretto255_scalar_invert(out, scalar) != 0:
        raise InvalidScalar("Zero has no inverse.")
    return out.raw


def aead_encrypt(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes = b"") -> bytes:
    """Return `plaintext` encrypted with XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), its 16 bytes of tag at the
    end. `associated` is authenticated only.

    A nonce is used once for each key. Raises InvalidInput for a key not of 32 bytes or a nonce not of 24.
    """
    _check_aead(key, nonce)
    out = ctypes.create_string_buffer(len(plaintext) + AEAD_TAG_BYTES)
    _lib().crypto_aead_xchacha20poly1305_ietf_encrypt(
        out, None, plaintext, len(plaintext), associated, len(associated), None, nonce, key
    )
    return out.raw


def aead_decrypt(key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes = b"") -> bytes:
    """Return the plaintext of `aead_encrypt`.

    Raises InvalidCiphertext for every other key, nonce, ciphertext or associated data; InvalidInput as `aead_encrypt`.
    """
    _check_aead(key, nonce)
    length = len(ciphertext) - AEAD_TAG_BYTES
    out = ctypes.create_string_buffer(max(length, 1))
    decrypt = _lib().crypto_aead_xchacha20poly1305_ietf_decrypt
    if (
        length < 0
        or decrypt(out, None, None, ciphertext, len(ciphertext), associated, len(associated), nonce, key) != 0
    ):
        raise InvalidCiphertext("A ciphertext was altered, or is for another key.")
    return out.raw[:length]


def _check_aead(key: bytes, nonce: bytes) -> None:
    if len(key) != AEAD_KEY_BYTES or len(nonce) != AEAD_NONCE_BYTES:
        raise InvalidInput(f"A cipher needs a key of {AEAD_KEY_BYTES} bytes and a nonce of {AEAD_NONCE_BYTES}.")


def scalars_inverted(scalars: Sequence[bytes]) -> list[bytes]:
    """Return 1 / scalar modulo the group order for each scalar, with one inversion for all (P. L. Montgomery, 1987).
    Raises InvalidScalar."""
    if not scalars:
        return []
    products = [scalars[0]]
    check_scalar(scalars[0])
    for scalar in scalars[1:]:
        products.append(scalar_mul(products[-1], scalar))
    inverse = scalar_invert(products[-1])
    inverses = []
    for scalar, before in zip(reversed(scalars[1:]), reversed(products[:-1]), strict=True):
        inverses.append(scalar_mul(inverse, before))
        inverse = scalar_mul(inverse, scalar)
    inverses.append(inverse)
    return inverses[::-1]


def _combine(name: str, left: bytes, right: bytes) -> bytes:
    check_point(left)
    check_point(right)
    out = _buffer()
    if getattr(_lib(), name)(out, left, right) != 0:
        raise InvalidPoint("A group element is not a canonical ristretto255 encoding.")
    return out.raw


def _scalars(name: str, left: bytes, right: bytes) -> bytes:
    check_scalar(left)
    check_scalar(right)
    out = _buffer()
    getattr(_lib(), name)(out, left, right)
    return out.raw


def _buffer() -> ctypes.Array[ctypes.c_char]:
    # One for each call: ctypes releases the interpreter lock, so a shared buffer would mix up threads.
    return ctypes.create_string_buffer(32)


def _check_uniform(uniform: bytes) -> None:
    if len(uniform) != UNIFORM_BYTES:
        raise InvalidInput(f"A uniform value must have {UNIFORM_BYTES} bytes.")


def _refuse_product(point: bytes) -> None:
    """Raise the error of a refused multiplication: InvalidPoint for the point, else IdentityPoint for the result."""
    check_point(point)
    raise IdentityPoint("A product is the identity of the group.")


@functools.cache
def _lib() -> ctypes.CDLL:
    source = _wheel_source()
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        start = text.find(_LITERAL_START) + len(_LITERAL_START)
        end = text.find(_LITERAL_END, start)
        if start < len(_LITERAL_START) or end < 0:
            raise ConfigurationError("The installed wheel rbcl does not hold libsodium in the expected form.")
        image = binascii.unhexlify(text[start:end])
    try:
        lib = _load_image(image)
    except OSError as error:
        raise ConfigurationError("libsodium from the wheel rbcl does not run on this system.") from error
    for name, pointers in _SIGNATURES.items():
        function = getattr(lib, name)
        function.argtypes = [ctypes.c_char_p] * pointers
        function.restype = ctypes.c_int
    data, size = ctypes.c_char_p, ctypes.c_ulonglong
    # ciphertext, its length, plaintext and its length, associated data and its length, no secret nonce, nonce, key
    lib.crypto_aead_xchacha20poly1305_ietf_encrypt.argtypes = [data, data, data, size, data, size, data, data, data]
    # plaintext, its length, no secret nonce, ciphertext and its length, associated data and its length, nonce, key
    lib.crypto_aead_xchacha20poly1305_ietf_decrypt.argtypes = [data, data, data, data, size, data, size, data, data]
    lib.sodium_compare.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
    lib.sodium_is_zero.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    lib.sodium_version_string.argtypes = []
    lib.sodium_version_string.restype = ctypes.c_char_p
    if lib.sodium_init() < 0:
        raise ConfigurationError("libsodium could not be initialised.")
    return lib


def _wheel_source() -> Path:
    spec = importlib.util.find_spec("rbcl")  # finds the package without running it
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        source = Path(folder) / "_sodium.py"
        if source.is_file():
            return source
    raise ConfigurationError("The wheel rbcl, which carries libsodium, is not installed.")


def _load_image(image: bytes) -> ctypes.CDLL:
    """Load a shared object from bytes: from memory on Linux, elsewhere through a file deleted at once."""
    try:
        descriptor = os.memfd_create("libsodium", os.MFD_CLOEXEC)
        with open(descriptor, "wb") as file:
            file.write(image)
            file.flush()
            return ctypes.CDLL(f"/proc/self/fd/{descriptor}")
    except (AttributeError, OSError):  # no memfd on this system, or /proc is not mounted
        import tempfile  # rarely needed, and it brings half the standard library

        with tempfile.NamedTemporaryFile(suffix=".so") as named:
            named.write(image)
            named.flush()
            return ctypes.CDLL(named.name)
