"""Memory images of running processes, as another process of the same user can read them."""

from __future__ import annotations

import base64
import os
from collections.abc import Collection
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

GAP = bytes(64)
WORD_BYTES = 8
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# Bits of /proc/PID/pagemap (Linux, Documentation/admin-guide/mm/pagemap.rst).
_PRESENT, _SWAPPED, _EXCLUSIVE = 63, 62, 56


def memory_image(pid: int) -> bytes:
    """Return the writable memory of a process: its runs of pages, with 64 zeros between them.

    Pages that the process still shares with the one that forked it are left out: they are older than anything that it
    read itself. Raises PermissionError where the system lets no process read another one's memory.
    """
    runs: list[bytes] = []
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory, Path(f"/proc/{pid}/pagemap").open("rb", 0) as pagemap:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, access = line.split()[:2]
            start, end = [int(part, 16) for part in span.split("-")]
            if not access.startswith("rw"):
                continue
            first_page, pages = start // PAGE_BYTES, (end - start) // PAGE_BYTES
            flags = np.frombuffer(os.pread(pagemap.fileno(), 8 * pages, 8 * first_page), "<u8")
            own = _bit(flags, _SWAPPED) | (_bit(flags, _PRESENT) & _bit(flags, _EXCLUSIVE))
            for first, count in _runs(own):
                with suppress(OSError):  # the process has given it back meanwhile
                    runs.append(os.pread(memory.fileno(), count * PAGE_BYTES, start + first * PAGE_BYTES))
    return GAP.join(runs)


def _bit(flags: Array, number: int) -> Array:
    bits: Array = (flags >> np.uint64(number)) & np.uint64(1) == 1
    return bits


def _runs(own: Array) -> list[tuple[int, int]]:
    """Return (first page, number of pages) of each run of true values."""
    runs, place = [], 0
    for is_own, pages in groupby(own.tolist()):
        count = len(list(pages))
        if is_own:
            runs.append((place, count))
        place += count
    return runs


def encodings(secret: bytes) -> dict[str, bytes]:
    """Return the forms in which a program may keep a scalar of 32 bytes (little-endian): bytes, texts, and the digits
    of Python's integers."""
    number = int.from_bytes(secret, "little")
    digits = [number >> 30 * place & (1 << 30) - 1 for place in range((number.bit_length() + 29) // 30)]
    return {
        "bytes": secret,
        "bytes, big-endian": secret[::-1],
        "base64url": base64.urlsafe_b64encode(secret).rstrip(b"="),
        "base64": base64.b64encode(secret).rstrip(b"="),
        "base64, big-endian": base64.urlsafe_b64encode(secret[::-1]).rstrip(b"="),
        "hex": secret.hex().encode(),
        "hex, capital letters": secret.hex().upper().encode(),
        "hex of the number": b"%064x" % number,
        "decimal": str(number).encode(),
        "digits of an integer": b"".join([digit.to_bytes(4, "little") for digit in digits]),
    }


def contained(data: bytes, strings: Collection[bytes]) -> set[bytes]:
    """Return those of the strings, of 15 bytes or more each, that occur in the data at any offset.

    Wherever a string occurs, one of its first eight offsets is at a whole word of the data. So the words are read once
    for all strings, and only a string of which such a word is there is searched for.
    """
    words_of = {
        string: {int.from_bytes(string[offset : offset + WORD_BYTES], "little") for offset in range(WORD_BYTES)}
        for string in strings
    }
    beginnings = np.array(sorted(set().union(*words_of.values())), "<u8")
    is_beginning = np.zeros(1 << 16, np.bool_)  # by the first two bytes of a word: few words are left
    is_beginning[beginnings & np.uint64(0xFFFF)] = True
    words = np.frombuffer(data, "<u8", len(data) // WORD_BYTES)
    present = set(np.intersect1d(words[is_beginning[words.view("<u2")[::4]]], beginnings).tolist())
    return {string for string, its_words in words_of.items() if its_words & present and string in data}
