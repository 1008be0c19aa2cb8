"""The attacker program: a function from everything that a party has to the candidates that it can name.

It knows the public log, the protocol and nothing else. It takes every 32-byte string in the material, also inside texts
in base64url, base64 or hex, for a scalar of the key: a share k_i, or k itself. A string is one of them if its multiple
of the base point is a K_i or K of the log. From shares it computes k, with any t of them, of whatever generation. With
k, or else with each share in k's place, it computes element and tag of all candidates. A candidate is named if its tag
or its element occurs anywhere in the material.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations, product
from string import ascii_letters, digits
from typing import Any

import numpy as np

from ledger.errors import HolderMismatch
from ledger.protocol import sodium, voprf
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import tag
from ledger.protocol.threshold import lagrange
from ledger.tlog.entries import GovernanceType, parse_leaf
from ledger.tlog.key_statement import KeyStatement, parse_statement

Candidate = tuple[Kind, bytes]
"""A kind of identifier and the canonical bytes of one."""
Pseudonyms = Mapping[bytes, Candidate]
"""Elements and tags, each with its candidate."""
Array = np.ndarray[Any, Any]

STRING_BYTES = 32
RUN_MAX_CHARS = 130
"""A run of characters up to this length is searched for texts of 32 bytes at each offset. A longer one is the text of
something longer: of a file it is decoded, and searched at each offset of its bytes."""


def _alphabet(characters: str) -> Array:
    """Return a table of 256 flags, of which those of these characters are set."""
    flags = np.zeros(256, np.int8)
    flags[list(characters.encode())] = 1
    return flags


STEP_BYTES = 8
"""Only every eighth byte is looked up first: where few neighbours among these are characters, there is no long run."""
_HEX = re.compile(rb"[0-9A-Fa-f]{64,}")
_RUNS_OF = {shortest: re.compile(rb"[A-Za-z0-9_+/-]{%d,}" % shortest) for shortest in (43, RUN_MAX_CHARS + 1)}
_BASE64 = _alphabet(ascii_letters + digits + "-_+/")
_STANDARD = bytes.maketrans(b"-_", b"+/")
_LAST_CHARS = frozenset(b"AEIMQUYcgkosw048")
"""Last characters of a base64 text of 32 bytes: two bits of it are zero."""


@dataclass(frozen=True)
class Possession:
    """Everything that a party has: the entries of the public log, all its files with logs and recorded connections,
    memory images of its processes, and the elements that it had evaluated, by candidate."""

    log: tuple[bytes, ...]
    files: Mapping[str, bytes]
    memory: tuple[bytes, ...] = ()
    evaluated: Mapping[Candidate, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What the attacker got: the shares that it has, as (epoch, generation, index), the epochs whose key it has, the
    candidates that it names, and how many strings it took for scalars."""

    shares: frozenset[tuple[int, int, int]]
    keys: frozenset[int]
    named: frozenset[Candidate]
    tried: int


def attack(possession: Possession, candidates: Sequence[Candidate]) -> Outcome:
    """Try everything, and return what came out."""
    statements = published(possession.log)
    scalars = scalars_in(possession)
    shares, keys = recognised(scalars, statements)
    for statement in statements:
        key = combined_key(statement, shares)
        if key is not None:
            keys[statement.epoch] = key
    named = occurring(possession.files.values(), pseudonyms(possession.evaluated.items()))
    # With a key there is no need to try shares in its place.
    for secret in keys.values() or shares.values():
        named |= occurring(possession.files.values(), pseudonyms_under(secret, tuple(candidates)))
    return Outcome(frozenset(shares), frozenset(keys), frozenset(named), len(scalars))


# --- the key --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def published(log: tuple[bytes, ...]) -> Sequence[KeyStatement]:
    """Return the key statements in the entries of a log."""
    statements = []
    for entry in log:
        leaf = parse_leaf(entry)
        if leaf.type == GovernanceType.KEY_ROTATION and leaf.body is not None and leaf.body.get("statement"):
            statements.append(parse_statement(leaf.body["statement"]))
    return tuple(statements)


def recognised(
    scalars: Iterable[bytes], statements: Sequence[KeyStatement]
) -> tuple[dict[tuple[int, int, int], bytes], dict[int, bytes]]:
    """Return the scalars that are shares, by (epoch, generation, index), and those that are keys, by epoch."""
    indexed = {
        holder.key.public_key: (statement.epoch, statement.keys.generation, holder.key.index)
        for statement in statements
        for holder in statement.holders
    }
    whole = {statement.keys.public_key: statement.epoch for statement in statements}
    shares: dict[tuple[int, int, int], bytes] = {}
    keys: dict[int, bytes] = {}
    for scalar in scalars:
        point = _point(scalar)
        if point in indexed:
            shares[indexed[point]] = scalar
        if point in whole:
            keys[whole[point]] = scalar
    return shares, keys


def combined_key(statement: KeyStatement, shares: Mapping[tuple[int, int, int], bytes]) -> bytes | None:
    """Return the key of a statement from any t shares of its epoch at different indexes, of any generations, if they
    give it."""
    of_index: dict[int, list[bytes]] = {}
    for (epoch, _, index), share in shares.items():
        if epoch == statement.epoch:
            of_index.setdefault(index, []).append(share)
    for indexes in combinations(sorted(of_index), statement.keys.threshold):
        try:
            coefficients = lagrange(indexes)
        except HolderMismatch:
            continue
        for chosen in product(*[of_index[index] for index in indexes]):
            total = sum(
                coefficients[index] * int.from_bytes(share, "little")
                for index, share in zip(indexes, chosen, strict=True)
            )
            key = (total % sodium.GROUP_ORDER).to_bytes(STRING_BYTES, "little")
            if any(key) and sodium.scalarmult_base(key) == statement.keys.public_key:
                return key
    return None


@lru_cache(maxsize=1 << 20)
def _point(scalar: bytes) -> bytes:
    return sodium.scalarmult_base(scalar)


# --- candidates -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def pseudonyms_under(secret: bytes, candidates: tuple[Candidate, ...]) -> Pseudonyms:
    """Return elements and tags of candidates under a key."""
    elements = sodium.scalarmult_many(secret, _hashed(candidates))
    return pseudonyms(zip(candidates, elements, strict=True))


def pseudonyms(elements: Iterable[tuple[Candidate, bytes]]) -> Pseudonyms:
    """Return each element, and its tag, with its candidate."""
    return {value: candidate for candidate, element in elements for value in (element, tag(candidate[0], element))}


@lru_cache(maxsize=2)
def _hashed(candidates: tuple[Candidate, ...]) -> list[bytes]:
    return [voprf.hash_to_group(text) for _, text in candidates]


def occurring(files: Iterable[bytes], values: Pseudonyms) -> set[Candidate]:
    """Return the candidates of those values that are in the files, as bytes or as text."""
    if not values:
        return set()
    strings = list(values)
    heads = np.frombuffer(b"".join([string[:8] for string in strings]), "<u8")
    order = np.argsort(heads)
    heads = heads[order]  # in order, so that neighbours are searched for near each other
    candidates: set[Candidate] = set()
    for data in files:
        present = _heads(data)
        if len(present):
            nearest = present[np.minimum(np.searchsorted(present, heads), len(present) - 1)]
            possible = [strings[place] for place in order[nearest == heads].tolist()]
            candidates.update([values[string] for string in possible if _has(data, string)])
    return candidates


# --- strings of 32 bytes --------------------------------------------------------------------------------------------


def scalars_in(possession: Possession) -> set[bytes]:
    """Return all strings of the material that may be scalars."""
    scalars: set[bytes] = set()
    for data in possession.files.values():
        scalars |= _scalars_of_file(data)
    for image in possession.memory:
        scalars |= _scalars_of_image(image)
    return scalars


def is_scalar(string: bytes) -> bool:
    """True if the string is a canonical scalar other than zero."""
    return string[31] <= 0x10 and 0 < int.from_bytes(string, "little") < sodium.GROUP_ORDER


@lru_cache(maxsize=256)
def _scalars_of_file(data: bytes) -> frozenset[bytes]:
    scalars = {text for text in _decoded_strings(data) if is_scalar(text)}
    for part in (data, _unwrapped(data)):
        places = _places(part)
        octets = np.frombuffer(part, np.uint8)
        fit = places[octets[places + 31] <= 0x10] if len(places) else places
        raw = [part[place : place + STRING_BYTES] for place in fit.tolist()]
        scalars.update([string for string in raw if is_scalar(string)])
    return frozenset(scalars)


@lru_cache(maxsize=4)
def _scalars_of_image(image: bytes) -> frozenset[bytes]:
    return frozenset([string for string in (*texts(image), *byte_strings(image)) if is_scalar(string)])


@lru_cache(maxsize=256)
def _places(data: bytes) -> Array:
    """Return the offsets at which a string of 32 bytes begins that may be random: with at most six zeros and at least
    two bytes that are not ASCII (of 10^6 random strings, fewer than one is missed)."""
    octets = np.frombuffer(data, np.uint8)
    if len(octets) < STRING_BYTES:
        return np.zeros(0, np.int64)
    zeros = _sums(octets == 0)
    high = _sums(octets >= 0x80)
    return np.flatnonzero((zeros <= 6) & (high >= 2))


def _sums(marked: Array) -> Array:
    """Return how many of the 32 bytes from each offset are marked."""
    total = np.concatenate([np.zeros(1, np.int32), np.cumsum(marked, dtype=np.int32)])
    sums: Array = total[STRING_BYTES:] - total[:-STRING_BYTES]
    return sums


@lru_cache(maxsize=256)
def _heads(data: bytes) -> Array:
    """Return the first 8 bytes, as numbers in order, of all strings of 32 bytes in a file; some occur twice."""
    heads = [np.frombuffer(b"".join(_decoded_strings(data)), "<u8")[::4]]
    for part in (data, _unwrapped(data)):
        if len(part) >= STRING_BYTES:
            heads.append(np.ndarray((len(part) - 7,), "<u8", part, strides=(1,))[_places(part)])  # at each offset
    return np.sort(np.concatenate(heads))


def _has(data: bytes, string: bytes) -> bool:
    return string in data or string in _unwrapped(data) or string in _decoded_strings(data)


@lru_cache(maxsize=256)
def _decoded_strings(data: bytes) -> frozenset[bytes]:
    return frozenset(texts(data))


@lru_cache(maxsize=256)
def _unwrapped(data: bytes) -> bytes:
    """Return what the long texts in base64url, base64 and hex in a file say, one after the other."""
    parts = []
    for run in _runs(data, RUN_MAX_CHARS + 1):
        for text in (run[offset:].translate(_STANDARD) for offset in range(4)):
            parts.append(base64.b64decode(text[: len(text) // 4 * 4]))
        parts += [bytes.fromhex(match[0][: len(match[0]) // 2 * 2].decode()) for match in _HEX.finditer(run)]
    return b"".join(parts)


def texts(data: bytes) -> Iterator[bytes]:
    """Yield what texts of 32 bytes in the data say: base64url, base64 or hex."""
    for run in _runs(data, 43):
        for start in _starts(len(run), 43):
            text = run[start : start + 43]
            if text[-1] in _LAST_CHARS:
                yield base64.b64decode(text.translate(_STANDARD) + b"=")
        for match in _HEX.finditer(run):
            for start in _starts(len(match[0]), 64):
                yield bytes.fromhex(match[0][start : start + 64].decode())


def _runs(data: bytes, shortest: int) -> Iterator[bytes]:
    """Yield the runs of at least `shortest` characters of base64url and base64."""
    # A run has shortest // STEP_BYTES looked up bytes or more, and ends between its last one and the next one.
    inside = np.zeros(-(-len(data) // STEP_BYTES) + 2, np.int8)
    inside[1:-1] = _BASE64[np.frombuffer(data, np.uint8)[::STEP_BYTES]]
    edges = np.flatnonzero(np.diff(inside))
    firsts, ends = edges[::2], edges[1::2]
    long = ends - firsts >= shortest // STEP_BYTES
    run = _RUNS_OF[shortest]
    for first, end in zip(firsts[long].tolist(), ends[long].tolist(), strict=True):
        begin = max(0, STEP_BYTES * (first - 1) + 1)
        for match in run.finditer(data, begin, STEP_BYTES * end):
            yield match[0]


def _starts(length: int, size: int) -> Iterable[int]:
    return range(length - size + 1) if length <= RUN_MAX_CHARS else (0, length - size)


def byte_strings(image: bytes) -> Iterator[bytes]:
    """Yield the data of those `bytes` objects of CPython in a memory image that have 32 bytes and may be scalars."""
    words = np.frombuffer(image, "<u8", len(image) // 8)
    places = np.flatnonzero(words[:-5] == STRING_BYTES)  # the length, then the hash, then the data
    for place in places[words[places + 5] >> np.uint64(56) <= 0x10].tolist():
        yield image[8 * place + 16 : 8 * place + 16 + STRING_BYTES]
